//! Two questions that ask the same (1) or not (0): another wish about the same thing, or the same about another thing.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::CITIES;

pub(super) const GENERATOR: Generator = Generator { task: "qqp", train: 448, balance: &[63, 37], noise: 4, write };

/// Questions about each of `things`: every wish in three wordings, `{x}` is the thing.
struct Topic {
    things: &'static [&'static str],
    wishes: &'static [[&'static str; 3]],
}

const TOPICS: &[Topic] = &[
    Topic { things: SKILLS, wishes: OF_SKILLS },
    Topic { things: CITIES, wishes: OF_CITIES },
    Topic { things: DEVICES, wishes: OF_DEVICES },
];

const SKILLS: &[&str] = &[
    "Spanish",
    "chess",
    "yoga",
    "photography",
    "swimming",
    "programming",
    "tennis",
    "drawing",
    "Japanese",
    "golf",
    "pottery",
    "sailing",
    "dancing",
    "German",
    "knitting",
    "skiing",
    "cooking",
    "judo",
    "singing",
    "Italian",
];

const OF_SKILLS: &[[&str; 3]] = &[
    ["What is the best way to learn {x}?", "How can a beginner learn {x}?", "How do I get started with {x}?"],
    [
        "How long does it take to learn {x}?",
        "How many months do I need to learn {x}?",
        "How much time does it take to become good at {x}?",
    ],
    [
        "How much does a course in {x} cost?",
        "What is the price of a course in {x}?",
        "How expensive are lessons in {x}?",
    ],
    [
        "Am I too old to learn {x} at fifty?",
        "Can a person of fifty still learn {x}?",
        "Is it too late to start {x} at the age of fifty?",
    ],
    ["Is {x} hard to learn?", "How difficult is it to learn {x}?", "Is it easy to become good at {x}?"],
    [
        "Which book about {x} should I read?",
        "What are some good books on {x}?",
        "Can anyone recommend a book about {x}?",
    ],
    ["Can I learn {x} without a teacher?", "Do I need a teacher to learn {x}?", "Is it possible to teach myself {x}?"],
    [
        "Why do so many people give up {x}?",
        "What makes so many people lose interest in {x}?",
        "Why do most people quit {x} so soon?",
    ],
    [
        "Which websites teach {x} for free?",
        "Where can I find free lessons in {x} online?",
        "Are there free online courses in {x}?",
    ],
];

const OF_CITIES: &[[&str; 3]] = &[
    [
        "How do I find a cheap flight to {x}?",
        "What is the cheapest way to fly to {x}?",
        "Where can I buy low-cost air tickets to {x}?",
    ],
    [
        "What is the weather like in {x} in winter?",
        "How cold does it get in {x} in winter?",
        "Is it very cold in {x} during the winter?",
    ],
    [
        "What are the best restaurants in {x}?",
        "Where can I get good food in {x}?",
        "Which places in {x} are best for dinner?",
    ],
    [
        "How much is the rent for a flat in {x}?",
        "What does it cost to rent an apartment in {x}?",
        "How expensive are rented apartments in {x}?",
    ],
    ["Is {x} a safe city for tourists?", "How dangerous is {x} for visitors?", "Is there much crime in {x}?"],
    [
        "How can I find a job in {x}?",
        "What is the best way to get work in {x}?",
        "Where should I look for a job in {x}?",
    ],
    [
        "What should a tourist see in {x}?",
        "Which sights in {x} are worth a visit?",
        "What are the main attractions of {x}?",
    ],
];

const DEVICES: &[&str] = &[
    "laptop",
    "phone",
    "printer",
    "camera",
    "tablet",
    "television",
    "washing machine",
    "coffee machine",
    "car radio",
    "vacuum cleaner",
    "fridge",
    "dishwasher",
    "smart watch",
    "keyboard",
    "microwave",
];

const OF_DEVICES: &[[&str; 3]] = &[
    [
        "Why does my {x} not turn on?",
        "What can I do if my {x} will not start?",
        "How do I fix a {x} that does not start?",
    ],
    ["How do I clean my {x}?", "What is the best way to clean a {x}?", "How can I remove dirt from my {x}?"],
    ["Which {x} should I buy?", "What is the best {x} on the market?", "Can you recommend a good new {x}?"],
    ["How long does a {x} last?", "How many years can I use a {x}?", "What is the lifetime of a {x}?"],
    ["Where can I sell my old {x}?", "How do I find a buyer for my used {x}?", "Who buys an old {x}?"],
    [
        "How long is the warranty on a {x}?",
        "Does a new {x} come with a warranty?",
        "How many years of warranty do I get on a {x}?",
    ],
    ["How much power does a {x} use?", "Does a {x} need a lot of electricity?", "How much energy does a {x} consume?"],
];

/// Beginnings of some questions.
const OPENERS: &[&str] = &["Quick question: ", "Just wondering: ", "Please help: ", "Simple question: "];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let topic = draw.form(TOPICS);
    let (thing, wish) = (draw.word(topic.things), draw.word(topic.wishes));
    let told = draw.below(3);
    let anew = (told + 1 + draw.below(2)) % 3;
    let (thing2, second) = match (class, draw.below(100)) {
        (1, _) => (thing, wish[anew]),
        (_, 0..60) => (thing, draw.other(topic.wishes, wish)[anew]),
        (_, 60..80) => (draw.other(topic.things, thing), wish[anew]),
        (_, _) => (draw.other(topic.things, thing), draw.other(topic.wishes, wish)[anew]),
    };
    SyntheticRow::pair(question(draw, wish[told], thing), question(draw, second, thing2), class)
}

fn question(draw: &mut Draw, wish: &str, thing: &str) -> String {
    let opener = if draw.chance(30) { *draw.form(OPENERS) } else { "" };
    format!("{opener}{}", wish.replace("{x}", thing))
}
