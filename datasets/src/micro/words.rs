//! Words that several grammars share. The last fifth of each list is not seen in training (see `draw.rs`).

use crate::micro::draw::Draw;

pub(super) const WOMEN: &[&str] = &[
    "Anna", "Maria", "Julia", "Clara", "Sarah", "Emma", "Laura", "Nina", "Helen", "Alice", "Rosa", "Diana", "Irene",
    "Carmen", "Olga",
];

pub(super) const MEN: &[&str] = &[
    "Peter", "David", "Mark", "Thomas", "Simon", "Robert", "Paul", "Victor", "Daniel", "Oscar", "Martin", "Henry",
    "Frank", "Walter", "Hugo",
];

/// Family names.
pub(super) const SURNAMES: &[&str] = &[
    "Keller", "Reyes", "Olsen", "Novak", "Turner", "Bishop", "Marino", "Hughes", "Lindgren", "Carter", "Fischer",
    "Moreau", "Sandoval", "Whitman", "Petrov",
];

pub(super) const CITIES: &[&str] = &[
    "London", "Berlin", "Madrid", "Toronto", "Chicago", "Oslo", "Vienna", "Lisbon", "Boston", "Prague", "Dublin",
    "Sydney", "Warsaw", "Helsinki", "Seattle",
];

pub(super) const COMPANIES: &[&str] = &[
    "Northgate",
    "Bluestone",
    "Silverline",
    "Westbrook",
    "Redwood Foods",
    "Harbor Bank",
    "Summit Steel",
    "Oakfield",
    "Crown Motors",
    "Lakeside Media",
    "Falcon Air",
    "Granite Energy",
    "Riverton",
    "Kingsway",
    "Orion Labs",
];

pub(super) const DAYS: &[&str] = &["Monday", "Tuesday", "Thursday", "Friday", "Saturday", "Wednesday", "Sunday"];

pub(super) const NUMBERS: &[&str] = &["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"];

/// First and family name.
pub(super) fn person(draw: &mut Draw) -> String {
    let names = if draw.chance(50) { WOMEN } else { MEN };
    format!("{} {}", draw.word(names), draw.word(SURNAMES))
}

/// The text with its first letter as a capital.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The template with every slot, e.g. `{c}`, replaced by its text.
pub(super) fn fill(template: &str, slots: &[(&str, String)]) -> String {
    slots.iter().fold(template.to_string(), |text, (slot, with)| text.replace(slot, with))
}
