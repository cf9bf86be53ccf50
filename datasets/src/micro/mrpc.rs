//! Two sentences of news that say the same (1) or not (0): another event, the opposite one, or other details.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::{CITIES, COMPANIES, DAYS, NUMBERS, capital, fill, person};

pub(super) const GENERATOR: Generator = Generator { task: "mrpc", train: 384, balance: &[32, 68], noise: 4, write };

/// Opposite events in pairs, and three ways to report each. `{p}` is a person, `{c}` a company, `{d}` another, `{t}` a
/// city, `{n}` a number.
const EVENTS: &[[[&str; 3]; 2]] = &[
    [
        [
            "shares of {c} rose {n} percent",
            "{c} stock gained {n} percent",
            "the price of {c} shares went up {n} percent",
        ],
        [
            "shares of {c} fell {n} percent",
            "{c} stock lost {n} percent",
            "the price of {c} shares went down {n} percent",
        ],
    ],
    [
        [
            "{c} will cut {n} thousand jobs in {t}",
            "{n} thousand workers at the {t} office of {c} will lose their jobs",
            "{c} plans to lay off {n} thousand people in {t}",
        ],
        [
            "{c} will create {n} thousand jobs in {t}",
            "{n} thousand new workers will find jobs at the {t} office of {c}",
            "{c} plans to hire {n} thousand people in {t}",
        ],
    ],
    [
        [
            "{p} was named chief executive of {c}",
            "{c} chose {p} as its new chief executive",
            "{p} will take over as head of {c}",
        ],
        [
            "{p} stepped down as chief executive of {c}",
            "{c} lost its chief executive , {p}",
            "{p} gave up the post as head of {c}",
        ],
    ],
    [
        [
            "{p} was sentenced to {n} years in prison in {t}",
            "a court in {t} sent {p} to jail for {n} years",
            "{p} must spend {n} years behind bars after a trial in {t}",
        ],
        [
            "{p} was released from prison in {t} after {n} years",
            "a court in {t} freed {p} after {n} years in jail",
            "{p} left a jail in {t} after {n} years behind bars",
        ],
    ],
    [
        [
            "{c} agreed to buy {d} for {n} million dollars",
            "{d} will be acquired by {c} in a deal worth {n} million dollars",
            "{c} is to pay {n} million dollars for {d}",
        ],
        [
            "{c} dropped its plan to buy {d} for {n} million dollars",
            "the sale of {d} to {c} for {n} million dollars was called off",
            "{c} will not take over {d} for {n} million dollars after all",
        ],
    ],
    [
        [
            "a fire at a hotel in {t} killed {n} people",
            "{n} people died when a hotel burned down in {t}",
            "{n} guests lost their lives in a hotel fire in {t}",
        ],
        [
            "all {n} guests escaped from a hotel fire in {t}",
            "nobody was hurt when a hotel with {n} guests burned down in {t}",
            "{n} people got out of a burning hotel in {t} unharmed",
        ],
    ],
    [
        [
            "a storm cut off power to {n} thousand homes near {t}",
            "{n} thousand houses around {t} lost electricity in a storm",
            "{n} thousand homes near {t} were left in the dark by a storm",
        ],
        [
            "power returned to {n} thousand homes near {t} after the storm",
            "{n} thousand houses around {t} had electricity again after the storm",
            "the lights came back on in {n} thousand homes near {t} after the storm",
        ],
    ],
    [
        [
            "{c} earned {n} million dollars in {t} this year",
            "the {t} business of {c} made a profit of {n} million dollars this year",
            "{c} reported a gain of {n} million dollars for {t}",
        ],
        [
            "{c} lost {n} million dollars in {t} this year",
            "the {t} business of {c} made a loss of {n} million dollars this year",
            "{c} reported a deficit of {n} million dollars for {t}",
        ],
    ],
    [
        ["{p} won the final in {t}", "victory in the {t} final went to {p}", "{p} took the title in {t}"],
        ["{p} lost the final in {t}", "the {t} final ended in defeat for {p}", "{p} missed the title in {t}"],
    ],
    [
        [
            "doctors in {t} found {n} new cases of the virus",
            "{n} more people in {t} have caught the virus",
            "the virus has infected {n} more people in {t}",
        ],
        [
            "doctors in {t} cured {n} patients of the virus",
            "{n} people in {t} have recovered from the virus",
            "{n} virus patients in {t} are healthy again",
        ],
    ],
];

/// Who says it and when. `{r}` is the report.
const FRAMES: &[&str] = &["{r} .", "{r} on {w} .", "{r} , {s} said .", "{s} said {r} ."];

const SOURCES: &[&str] = &["officials", "a spokesman", "local media", "two newspapers", "a news agency"];

type Slots = [(&'static str, String); 5];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let events = draw.word(EVENTS);
    let (side, told) = (draw.below(2), draw.below(3));
    let anew = (told + 1 + draw.below(2)) % 3;
    let known = slots(draw);
    let source = [draw.form(SOURCES).to_string(), draw.word(DAYS).to_string()];
    let first = sentence(draw, events[side][told], &known, &source);
    let (report, slots) = match (class, draw.below(100)) {
        (1, 0..85) => (events[side][anew], known),
        (1, _) => (events[side][told], known),
        (_, 0..45) => (events[1 - side][anew], known),
        (_, 45..75) => (draw.other(EVENTS, events)[draw.below(2)][anew], known),
        (_, _) => (events[side][anew], slots(draw)),
    };
    let second = sentence(draw, report, &slots, &source);
    if first == second { write(draw, class) } else { SyntheticRow::pair(first, second, class) }
}

fn sentence(draw: &mut Draw, report: &str, slots: &Slots, [source, day]: &[String; 2]) -> String {
    let text = draw.form(FRAMES).replace("{r}", &fill(report, slots)).replace("{s}", source).replace("{w}", day);
    capital(&text)
}

fn slots(draw: &mut Draw) -> Slots {
    let company = draw.word(COMPANIES);
    let other = draw.other(COMPANIES, company).to_string();
    [
        ("{p}", person(draw)),
        ("{c}", company.to_string()),
        ("{d}", other),
        ("{t}", draw.word(CITIES).to_string()),
        ("{n}", draw.word(NUMBERS).to_string()),
    ]
}
