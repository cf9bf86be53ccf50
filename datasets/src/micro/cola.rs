//! Acceptability: sentences as they should be (1), or with one violation of agreement, order, valency, form or
//! reference (0).

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::{MEN, WOMEN};

pub(super) const GENERATOR: Generator = Generator { task: "cola", train: 384, balance: &[30, 70], noise: 4, write };

/// Singular and plural.
const PEOPLE: &[(&str, &str)] = &[
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("child", "children"),
    ("driver", "drivers"),
    ("artist", "artists"),
    ("farmer", "farmers"),
    ("student", "students"),
    ("singer", "singers"),
    ("writer", "writers"),
    ("baker", "bakers"),
    ("lawyer", "lawyers"),
    ("guest", "guests"),
    ("nurse", "nurses"),
    ("pilot", "pilots"),
    ("tailor", "tailors"),
];

const THINGS: &[(&str, &str)] = &[
    ("book", "books"),
    ("letter", "letters"),
    ("picture", "pictures"),
    ("box", "boxes"),
    ("key", "keys"),
    ("cup", "cups"),
    ("lamp", "lamps"),
    ("ticket", "tickets"),
    ("map", "maps"),
    ("coat", "coats"),
    ("bag", "bags"),
    ("bottle", "bottles"),
    ("basket", "baskets"),
    ("clock", "clocks"),
    ("blanket", "blankets"),
];

const PLACES: &[&str] = &[
    "on the table",
    "in the kitchen",
    "under the chair",
    "near the door",
    "behind the house",
    "on the shelf",
    "in the garden",
    "beside the bed",
    "in the car",
    "on the floor",
];

/// Base, third person, past, participle; takes an object.
const TAKE: &[[&str; 4]] = &[
    ["see", "sees", "saw", "seen"],
    ["take", "takes", "took", "taken"],
    ["choose", "chooses", "chose", "chosen"],
    ["break", "breaks", "broke", "broken"],
    ["hide", "hides", "hid", "hidden"],
    ["steal", "steals", "stole", "stolen"],
    ["draw", "draws", "drew", "drawn"],
    ["give away", "gives away", "gave away", "given away"],
    ["forget", "forgets", "forgot", "forgotten"],
    ["throw", "throws", "threw", "thrown"],
];

/// Base, third person, past, participle; takes none.
const ALONE: &[[&str; 4]] = &[
    ["sleep", "sleeps", "slept", "slept"],
    ["arrive", "arrives", "arrived", "arrived"],
    ["laugh", "laughs", "laughed", "laughed"],
    ["smile", "smiles", "smiled", "smiled"],
    ["cough", "coughs", "coughed", "coughed"],
    ["disappear", "disappears", "disappeared", "disappeared"],
    ["fall", "falls", "fell", "fallen"],
    ["sneeze", "sneezes", "sneezed", "sneezed"],
    ["vanish", "vanishes", "vanished", "vanished"],
    ["wait", "waits", "waited", "waited"],
];

const REFLEXIVE: &[&str] = &["hurt", "blamed", "admired", "dressed", "photographed", "taught", "praised", "introduced"];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let good = class == 1;
    // Word order, which a sentence encoder sees best, is the most frequent; agreement over a distance is rare.
    let text = match draw.below(20) {
        0 => agreement(draw, good),
        1 => attractor(draw, good),
        2..10 => order(draw, good),
        10 => valency(draw, good),
        11 => location(draw, good),
        12 => reflexive(draw, good),
        13..16 => auxiliary(draw, good),
        16 => question(draw, good),
        17 => determiner(draw, good),
        _ => participle(draw, good),
    };
    SyntheticRow::single(text, class)
}

fn agreement(draw: &mut Draw, good: bool) -> String {
    let (who, what, verb) = (draw.word(PEOPLE), draw.word(THINGS), draw.word(TAKE));
    let often = draw.form(&["", " often", " never", " always"]);
    let plural = draw.chance(50);
    let subject = if plural { who.1 } else { who.0 };
    let verb = if plural == good { verb[0] } else { verb[1] };
    format!("The {subject}{often} {verb} the {}.", what.1)
}

/// A noun of the other number stands between subject and verb.
fn attractor(draw: &mut Draw, good: bool) -> String {
    let (head, near, place) = (draw.word(THINGS), draw.word(PEOPLE), draw.word(PLACES));
    let plural = draw.chance(50);
    let (subject, between) = if plural { (head.1, near.0) } else { (head.0, near.1) };
    let verb = if plural == good { "are" } else { "is" };
    format!("The {subject} of the {between} {verb} {place}.")
}

fn order(draw: &mut Draw, good: bool) -> String {
    let (who, what, verb) = (draw.word(PEOPLE).0, draw.word(THINGS).0, draw.word(TAKE)[2]);
    let when = draw.form(&["yesterday", "last week", "this morning", "again"]);
    if good {
        return format!("The {who} {verb} the {what} {when}.");
    }
    match draw.below(4) {
        0 => format!("The {who} the {what} {verb} {when}."),
        1 => format!("{} the {who} the {what} {when}.", crate::micro::words::capital(verb)),
        2 => format!("The {who} {verb} {what} the {when}."),
        _ => format!("The {who} {verb} the {when} {what}."),
    }
}

fn valency(draw: &mut Draw, good: bool) -> String {
    let names = if draw.chance(50) { WOMEN } else { MEN };
    let (name, what) = (*draw.word(names), draw.word(THINGS).0);
    let (alone, take) = (draw.word(ALONE)[2], draw.word(TAKE)[2]);
    let place = draw.word(PLACES);
    match (good, draw.chance(50)) {
        (true, true) => format!("{name} {alone} {place}."),
        (true, false) => format!("{name} {take} the {what} {place}."),
        (false, true) => format!("{name} {alone} the {what} {place}."),
        (false, false) => format!("{name} {take} {place}."),
    }
}

fn location(draw: &mut Draw, good: bool) -> String {
    let (who, what, place) = (draw.word(PEOPLE).0, draw.word(THINGS).0, draw.word(PLACES));
    match (good, draw.below(2)) {
        (true, _) => format!("The {who} put the {what} {place}."),
        (false, 0) => format!("The {who} put {place}."),
        (false, _) => format!("The {who} put the {what}."),
    }
}

fn reflexive(draw: &mut Draw, good: bool) -> String {
    let woman = draw.chance(50);
    let name = draw.word(if woman { WOMEN } else { MEN });
    let verb = draw.word(REFLEXIVE);
    let own = if woman == good { "herself" } else { "himself" };
    let tail = draw.form(&["", " again", " in the mirror", " at the party", " last year"]);
    format!("{name} {verb} {own}{tail}.")
}

fn auxiliary(draw: &mut Draw, good: bool) -> String {
    let (who, what, verb) = (draw.word(PEOPLE).0, draw.word(THINGS).0, draw.word(TAKE));
    let helper = draw.form(&["can", "will", "must", "did not", "should"]);
    let verb = if good { verb[0] } else { verb[if draw.chance(50) { 1 } else { 2 }] };
    format!("The {who} {helper} {verb} the {what}.")
}

fn question(draw: &mut Draw, good: bool) -> String {
    let (who, what, verb) = (draw.word(PEOPLE).0, draw.word(THINGS).0, draw.word(TAKE)[0]);
    match (good, draw.below(2)) {
        (true, 0) => format!("Which {what} did the {who} {verb}?"),
        (true, _) => format!("What did the {who} {verb}?"),
        (false, 0) => format!("Which {what} did the {who} {verb} it?"),
        (false, _) => format!("What did the {who} {verb} the {what}?"),
    }
}

fn determiner(draw: &mut Draw, good: bool) -> String {
    let (what, name, verb) = (draw.word(THINGS), draw.word(MEN), draw.word(TAKE)[2]);
    let (one, many) = (draw.form(&["every", "a", "one", "this"]), draw.form(&["many", "several", "these", "two"]));
    let plural = draw.chance(50);
    let determiner = if plural == good { many } else { one };
    let noun = if plural { what.1 } else { what.0 };
    format!("{name} {verb} {determiner} {noun}.")
}

fn participle(draw: &mut Draw, good: bool) -> String {
    let (who, what, verb) = (draw.word(PEOPLE).0, draw.word(THINGS).0, draw.word(TAKE));
    let form = if good { verb[3] } else { verb[if draw.chance(50) { 0 } else { 2 }] };
    match draw.below(2) {
        0 => format!("The {who} has {form} the {what}."),
        _ => format!("The {what} was {form} by the {who}."),
    }
}
