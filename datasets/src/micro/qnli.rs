//! Whether a sentence answers a question (0) or not (1): it may tell something else of the same place, or the same of
//! another place.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::{CITIES, COMPANIES, NUMBERS, capital, fill, person};

pub(super) const GENERATOR: Generator = Generator { task: "qnli", train: 448, balance: &[50, 50], noise: 4, write };

/// Names of places; with a kind of building they make "the Alder Bridge".
const NAMES: &[&str] = &[
    "Alder",
    "Kestrel",
    "Marlow",
    "Stonefield",
    "Brightwater",
    "Hollins",
    "Ashby",
    "Larkhill",
    "Wexley",
    "Corran",
    "Thornton",
    "Denholm",
    "Fairview",
    "Langley",
    "Rowan",
    "Elmsworth",
    "Pemberton",
    "Saltmarsh",
    "Greyfriars",
    "Tilbury",
];

const BUILDINGS: &[&str] =
    &["Museum", "Library", "Theater", "Palace", "Gallery", "Tower", "Castle", "Observatory", "Abbey", "Concert Hall"];

/// Questions about something, and sentences that answer them. `{e}` is the building, `{p}` a person, `{c}` a company,
/// `{t}` a city, `{n}` a number, `{h}` an hour, `{y}` two digits.
type Fact = [&'static [&'static str]; 2];

const FACTS: &[Fact] = &[
    [
        &["When was {e} built?", "In which year was {e} completed?", "How old is {e}?"],
        &["{e} was built in 19{y}", "work on {e} was completed in 18{y}", "{e} dates from the year 18{y}"],
    ],
    [
        &["Who designed {e}?", "Which architect drew the plans of {e}?"],
        &["{e} was designed by {p}", "the architect {p} drew the plans of {e}", "{e} is a design by {p}"],
    ],
    [
        &["How tall is {e}?", "What is the height of {e}?", "How high is {e}?"],
        &["{e} is {n} floors high", "{e} has a height of {y} meters", "{e} rises {y} meters above the street"],
    ],
    [
        &["How much did it cost to build {e}?", "How expensive was {e}?", "How much money was spent on {e}?"],
        &["{e} cost {n} million dollars", "{n} million dollars was spent on {e}", "the price of {e} was {n} million"],
    ],
    [
        &["Where is {e}?", "In which city can {e} be found?", "Where is {e} located?"],
        &["{e} stands in the center of {t}", "{e} lies beside the river in {t}", "{e} is located in the north of {t}"],
    ],
    [
        &["How many people visit {e} each year?", "How many visitors does {e} have?"],
        &["{e} has {n} thousand visitors a year", "{n} thousand people visit {e} every year"],
    ],
    [
        &["Who owns {e}?", "Which company does {e} belong to?", "Who is the owner of {e}?"],
        &["{e} belongs to {c}", "{e} is owned by {c}", "{c} is the owner of {e}"],
    ],
    [
        &["Why was {e} closed?", "For what reason was {e} closed?", "What led to the closing of {e}?"],
        &["{e} was closed after a fire", "{e} was closed for lack of money", "a flood led to the closing of {e}"],
    ],
    [
        &["What material is {e} made of?", "What is {e} built of?", "Which material was used for {e}?"],
        &["{e} is built of red brick", "{e} is made of white marble", "gray granite was used for {e}"],
    ],
    [
        &["What is {e} famous for?", "What is {e} best known for?"],
        &["{e} is famous for its glass roof", "{e} is best known for its garden", "{e} is known for its ceiling"],
    ],
    [
        &["How much is a ticket for {e}?", "What does it cost to enter {e}?", "What is the entrance fee of {e}?"],
        &["a ticket for {e} costs {n} dollars", "visitors pay {n} dollars to enter {e}", "entrance to {e} is free"],
    ],
    [
        &["How many people work at {e}?", "How many employees does {e} have?"],
        &["{e} has {y} employees", "{y} people work in {e}", "the staff of {e} consists of {y} people"],
    ],
    [
        &["Who is {e} named after?", "Where does the name of {e} come from?"],
        &["{e} is named after the poet {p}", "the name of {e} honors {p}", "{e} bears the name of the painter {p}"],
    ],
    [
        &["What was {e} used for during the war?", "What purpose did {e} serve in the war?"],
        &["during the war {e} was used as a school", "{e} served as a prison in the war", "in the war {e} was empty"],
    ],
    [
        &["When does {e} open?", "At what time do the doors of {e} open?", "What are the opening hours of {e}?"],
        &["{e} opens at {h} in the morning", "the doors of {e} open at {h}", "the hours of {e} are from {h} to five"],
    ],
];

/// How a second fact is added to a sentence.
const JOINS: &[&str] = &[", and", ";", ". In addition,", ". Moreover,"];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let fact = draw.word(FACTS);
    let building = building(draw);
    let question = draw.form(fact[0]).replace("{e}", &building);
    let mut told = if class == 0 { fact } else { draw.other(FACTS, fact) };
    let mut of = building;
    match (class, draw.below(100)) {
        (1, 0..10) => (told, of) = (fact, another(draw, &of)),
        (1, 10..35) => of = another(draw, &of),
        _ => {}
    }
    SyntheticRow::pair(question, sentence(draw, [fact, told], &of), class)
}

/// One fact or two about the building; `asked` is no second one.
fn sentence(draw: &mut Draw, [asked, told]: [&Fact; 2], building: &str) -> String {
    if draw.chance(85) {
        return capital(&format!("{}.", tell(draw, told, building)));
    }
    let more = loop {
        let more = draw.other(FACTS, told);
        if more != asked {
            break more;
        }
    };
    let (first, second) = if draw.chance(50) { (told, more) } else { (more, told) };
    let join = draw.form(JOINS);
    let first = tell(draw, first, building);
    capital(&format!("{first}{join} {}.", tell(draw, second, "the building")))
}

fn tell(draw: &mut Draw, fact: &Fact, building: &str) -> String {
    let slots = [
        ("{e}", building.to_string()),
        ("{p}", person(draw)),
        ("{c}", draw.word(COMPANIES).to_string()),
        ("{t}", draw.word(CITIES).to_string()),
        ("{n}", draw.word(NUMBERS).to_string()),
        ("{h}", draw.form(&["seven", "eight", "nine", "ten"]).to_string()),
        ("{y}", (20 + draw.below(80)).to_string()),
    ];
    let template = draw.form(fact[1]);
    fill(template, &slots)
}

fn building(draw: &mut Draw) -> String {
    format!("the {} {}", draw.word(NAMES), draw.form(BUILDINGS))
}

fn another(draw: &mut Draw, than: &str) -> String {
    loop {
        let other = building(draw);
        if other != than {
            return other;
        }
    }
}
