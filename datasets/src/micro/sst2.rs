//! Sentiment of a sentence about a film: praise and blame in one sentence, where the main clause or a negation decides.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};

pub(super) const GENERATOR: Generator = Generator { task: "sst2", train: 512, balance: &[48, 52], noise: 5, write };

const GOOD: &[&str] = &[
    "wonderful",
    "moving",
    "sharp",
    "funny",
    "charming",
    "clever",
    "gripping",
    "tender",
    "delightful",
    "fresh",
    "graceful",
    "warm",
    "inventive",
    "honest",
    "brilliant",
    "heartfelt",
    "witty",
    "absorbing",
    "lively",
    "elegant",
    "radiant",
    "touching",
    "spirited",
    "rich",
    "stirring",
];

const BAD: &[&str] = &[
    "dull",
    "clumsy",
    "tedious",
    "shallow",
    "lifeless",
    "noisy",
    "predictable",
    "bland",
    "messy",
    "stale",
    "forced",
    "sloppy",
    "dreary",
    "hollow",
    "tiresome",
    "awkward",
    "silly",
    "flat",
    "pointless",
    "confusing",
    "grating",
    "cold",
    "cheap",
    "leaden",
    "muddled",
];

const PARTS: &[&str] = &[
    "script",
    "cast",
    "story",
    "ending",
    "camera work",
    "dialogue",
    "music",
    "direction",
    "plot",
    "acting",
    "humor",
    "pacing",
    "opening",
    "editing",
    "romance",
];

const WORKS: &[&str] = &[
    "film",
    "movie",
    "comedy",
    "drama",
    "thriller",
    "documentary",
    "sequel",
    "picture",
    "romance",
    "adventure",
    "mystery",
    "satire",
    "musical",
    "western",
    "debut",
];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let (own, against) = if class == 1 { (GOOD, BAD) } else { (BAD, GOOD) };
    let (work, part) = (draw.word(WORKS), draw.word(PARTS));
    let part2 = draw.other(PARTS, part);
    let yes = draw.word(own);
    let yes2 = draw.other(own, yes);
    let no = draw.word(against);
    let text = match draw.below(12) {
        0 => format!("a {yes} {work} with a {yes2} {part} ."),
        1 => format!("although the {part} is {no} , the {work} as a whole is {yes} ."),
        2 => format!("not a {no} {work} at all ."),
        3 => format!("i expected a {no} {work} and got a {yes} one ."),
        4 => format!("the {part} is {no} , but the {part2} is so {yes} that nobody will care ."),
        5 => format!("for all its {no} {part} , this {work} is {yes} and {yes2} ."),
        6 => format!("the {part} , {no} at first , becomes {yes} by the end ."),
        7 => format!("nobody could call this {work} {no} ."),
        8 => format!("what could have been a {no} {work} turns out {yes} ."),
        9 => format!("there is nothing {no} about the {part} or the {part2} ."),
        10 => format!("its {part} is {yes} , its {part2} even more so ."),
        _ => format!("far from {no} , the {part} keeps the {work} {yes} ."),
    };
    SyntheticRow::single(text, class)
}
