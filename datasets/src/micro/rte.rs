//! Inference from a piece of news of one or two sentences: the short hypothesis follows (0) or not (1).
//!
//! Every kind of news has two opposite sides, and both serve as text and as hypothesis: only the pair tells the class.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::{CITIES, COMPANIES, DAYS, NUMBERS, capital, fill, person};

pub(super) const GENERATOR: Generator = Generator { task: "rte", train: 384, balance: &[50, 50], noise: 5, write };

/// Two opposite sides of a piece of news: what is reported of each, and what follows from it. `{p}` is a person, `{c}`
/// a company, `{t}` a city, `{n}` a number.
const NEWS: &[[[&str; 2]; 2]] = &[
    [
        ["{c} has opened a new factory in {t}", "{c} has started production in {t}"],
        ["{c} has closed its old factory in {t}", "{c} has stopped production in {t}"],
    ],
    [
        ["{p} was elected mayor of {t} with a clear majority", "{p} won the election in {t}"],
        ["{p} was beaten in the vote for mayor of {t}", "{p} lost the election in {t}"],
    ],
    [
        ["{p} was appointed head of {c} in {t}", "{p} is the new leader of {c}"],
        ["{p} has resigned as head of {c} in {t}", "{p} no longer leads {c}"],
    ],
    [
        ["a court in {t} found {p} guilty of fraud", "{p} was convicted by a court"],
        ["a court in {t} cleared {p} of all charges of fraud", "{p} was acquitted by a court"],
    ],
    [
        ["{c} reported a profit of {n} million dollars", "{c} made money"],
        ["{c} reported a loss of {n} million dollars", "{c} lost money"],
    ],
    [
        ["{n} thousand workers of {c} in {t} went on strike", "employees of {c} stopped working"],
        ["{n} thousand workers of {c} in {t} ended their strike", "employees of {c} went back to work"],
    ],
    [
        ["{p} survived the train accident near {t}", "{p} is still alive"],
        ["{p} died in the train accident near {t}", "{p} is dead"],
    ],
    [
        ["{c} will hire {n} thousand people in {t}", "{c} is creating jobs in {t}"],
        ["{c} will dismiss {n} thousand people in {t}", "{c} is cutting jobs in {t}"],
    ],
    [
        ["house prices in {t} rose by {n} percent", "housing in {t} became more expensive"],
        ["house prices in {t} fell by {n} percent", "housing in {t} became cheaper"],
    ],
    [
        ["the police in {t} arrested {p} at the airport", "{p} was taken to prison"],
        ["the police in {t} released {p} after {n} hours", "{p} was set free"],
    ],
    [
        ["the city council of {t} approved the tower planned by {c}", "{c} is allowed to build in {t}"],
        ["the city council of {t} rejected the tower planned by {c}", "{c} is not allowed to build in {t}"],
    ],
    [
        ["{p} finished first in the {t} marathon", "{p} won the race"],
        ["{p} gave up halfway through the {t} marathon", "{p} did not finish the race"],
    ],
    [
        ["the art museum in {t} bought {n} pictures painted by {p}", "a museum acquired works by {p}"],
        ["the art museum in {t} sold {n} pictures painted by {p}", "a museum got rid of works by {p}"],
    ],
    [
        ["doctors in {t} say that {p} has fully recovered", "{p} is healthy again"],
        ["doctors in {t} say that {p} is getting worse", "{p} is seriously ill"],
    ],
    [
        ["{c} has lowered all its prices in {t}", "it is now cheaper to buy from {c}"],
        ["{c} has raised all its prices in {t}", "it is now more expensive to buy from {c}"],
    ],
];

/// How a report is framed. `{r}` is the report.
const REPORTS: &[&str] = &["{r}.", "{r}.", "{r} on {d}.", "{r}, a newspaper wrote.", "{r}. Few had expected this."];

const CERTAIN: &[&str] = &["it is true that {r}", "it is known that {r}", "there is no doubt that {r}"];

const DOUBTED: &[&str] = &["it is not true that {r}", "it is not known whether {r}", "it is doubtful whether {r}"];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let news = draw.word(NEWS);
    let side = draw.below(2);
    let known = slots(draw);
    let report = sentence(news[side][0], &known);
    let day = draw.word(DAYS);
    let premise = draw.form(REPORTS).replace("{r}", report.trim_end_matches('.')).replace("{d}", day);
    let hypothesis = match (class, draw.below(100)) {
        (0, 0..60) => sentence(news[side][1], &known),
        (0, 60..90) if report != premise => report,
        (0, _) => sentence(&draw.form(CERTAIN).replace("{r}", news[side][0]), &known),
        (_, 0..15) => sentence(news[1 - side][1], &known),
        (_, 15..20) => sentence(news[1 - side][0], &known),
        (_, 20..40) => sentence(&draw.form(DOUBTED).replace("{r}", news[side][0]), &known),
        (_, 40..60) => sentence(draw.other(NEWS, news)[draw.below(2)][draw.below(2)], &known),
        (_, 60..90) => sentence(draw.other(NEWS, news)[draw.below(2)][draw.below(2)], &slots(draw)),
        (_, _) => sentence(news[side][1], &slots(draw)),
    };
    SyntheticRow::pair(premise, hypothesis, class)
}

fn sentence(template: &str, slots: &[(&str, String)]) -> String {
    capital(&format!("{}.", fill(template, slots)))
}

fn slots(draw: &mut Draw) -> [(&'static str, String); 4] {
    [
        ("{p}", person(draw)),
        ("{c}", draw.word(COMPANIES).to_string()),
        ("{t}", draw.word(CITIES).to_string()),
        ("{n}", draw.word(NUMBERS).to_string()),
    ]
}
