//! Inference between a premise and a hypothesis: entailment (0), neutral (1) or contradiction (2).
//!
//! Every scene has two opposite sides, and both serve as premise and as hypothesis: only the pair tells the class. The
//! mismatched set is of another genre, seafaring and flying instead of everyday life, with the same structures.

use crate::micro::draw::{Draw, Set};
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::{MEN, SURNAMES, WOMEN, capital};

pub(super) const GENERATOR: Generator = Generator { task: "mnli", train: 512, balance: &[34, 33, 33], noise: 4, write };

/// Two opposite sides of an event: how the premise tells each, and what follows from it.
type Scene = [[&'static str; 2]; 2];

const EVERYDAY: &[Scene] = &[
    [["fell asleep on the sofa", "was sleeping"], ["stayed awake until the morning", "did not sleep"]],
    [["sold the old car", "got rid of the car"], ["decided to keep the old car", "still had the car"]],
    [["came to the office too late", "was not on time"], ["came to the office very early", "was there in good time"]],
    [["won first prize in the contest", "was the winner"], ["came last in the contest", "was the loser"]],
    [["ate a large dinner", "had plenty to eat"], ["had no dinner at all", "went to bed hungry"]],
    [["locked the front door", "made the house safe"], ["left the front door wide open", "forgot to lock up"]],
    [["accepted the offer", "said yes to the offer"], ["turned down the offer", "said no to the offer"]],
    [["missed the last train", "did not get on the train"], ["caught the last train", "went home by train"]],
    [["passed the driving test", "was allowed to drive"], ["failed the driving test", "was not allowed to drive"]],
    [["found the missing keys", "had the keys again"], ["lost all the keys", "was without the keys"]],
    [["loved the new film", "liked the film"], ["hated the new film", "disliked the film"]],
    [["quit the job at the bank", "stopped working for the bank"], ["took a job at the bank", "joined the bank"]],
    [["repaired the broken heater", "got the heater to work"], ["broke the new heater", "damaged the heater"]],
    [["told the truth about the accident", "was honest"], ["lied about the accident", "was dishonest"]],
    [["cleaned the kitchen", "left the kitchen spotless"], ["made a mess in the kitchen", "left the kitchen dirty"]],
    [["paid back the whole loan", "had no more debts"], ["took out a large loan", "went into debt"]],
    [["shouted at the neighbors", "was loud"], ["spoke softly to the neighbors", "was quiet"]],
    [["gave up smoking", "no longer smoked"], ["began to smoke again", "became a smoker again"]],
    [["remembered the appointment", "kept the appointment in mind"], ["forgot the appointment", "did not remember it"]],
    [["lost a lot of weight", "became thinner"], ["put on a lot of weight", "became heavier"]],
];

const VOYAGES: &[Scene] = &[
    [["sailed into the harbor", "reached the port"], ["turned back before the harbor", "never reached the port"]],
    [["ignored the storm warning", "took a risk"], ["took the storm warning seriously", "was careful"]],
    [["landed the plane safely", "brought the plane down unharmed"], ["crashed the plane", "wrecked the plane"]],
    [["switched on the engine", "started the engine"], ["shut down the engine", "stopped the engine"]],
    [["dropped the anchor", "kept the boat in place"], ["pulled up the anchor", "got the boat moving"]],
    [["answered the radio call", "replied by radio"], ["ignored the radio call", "gave no answer by radio"]],
    [["pulled the swimmer out of the sea", "saved the swimmer"], ["sailed past the swimmer", "did not help"]],
    [["filled the tank", "had plenty of fuel"], ["used up all the fuel", "had no fuel left"]],
    [["followed the map", "knew the way"], ["dropped the map into the sea", "was without a map"]],
    [["obeyed the order", "did what was asked"], ["refused the order", "did not obey"]],
    [["won the boat race", "finished first"], ["came last in the boat race", "finished behind the others"]],
    [["filled the net with fish", "caught a lot of fish"], ["came home with an empty net", "caught no fish"]],
    [["increased the speed", "went faster"], ["reduced the speed", "slowed down"]],
    [["spotted the lighthouse", "saw the light"], ["failed to see the lighthouse", "did not notice the light"]],
    [["climbed above the clouds", "flew higher"], ["came down through the clouds", "flew lower"]],
];

const EVERYDAY_TIMES: &[&str] = &[
    "Last week",
    "On Monday",
    "In the end",
    "After the holidays",
    "That day",
    "On {her} birthday",
    "This spring",
    "Yesterday",
];

const VOYAGE_TIMES: &[&str] =
    &["At sunrise", "On the third day", "In the end", "Far from the coast", "During the voyage", "After the storm"];

const TITLES: &[&str] = &["Captain", "Officer", "Lieutenant", "Commander", "Sergeant"];

/// Additions of a premise that a hypothesis may keep; an addition of the hypothesis alone does not follow.
const DETAILS: &[&str] = &[
    "for the second time",
    "although nobody expected it",
    "despite a friend's warning",
    "after a talk with a friend",
    "for no good reason",
    "while the others were away",
    "on the advice of a colleague",
    "in spite of the heat",
    "shortly after a phone call",
    "because of a strange mistake",
];

fn write(draw: &mut Draw, class: usize) -> SyntheticRow {
    let voyage = draw.set() == Set::Mismatched;
    let scenes = if voyage { VOYAGES } else { EVERYDAY };
    let (name, pronoun) = subject(draw, voyage);
    let scene = draw.word(scenes);
    let another = draw.other(scenes, scene);
    let side = draw.below(2);
    let (detail, said) = (*draw.form(DETAILS), scene[side][0]);
    let detailed = draw.chance(20);
    let mut clause = if detailed { format!("{said} {detail}") } else { said.to_string() };
    if draw.chance(10) {
        let more = another[draw.below(2)][0];
        clause = if draw.chance(50) { format!("{clause}, and then {more}") } else { format!("{more}, but {clause}") };
    }
    let time = draw.form(if voyage { VOYAGE_TIMES } else { EVERYDAY_TIMES }).replace("{her}", pronoun.1);
    let premise = if draw.chance(40) { format!("{time}, {name} {clause}.") } else { format!("{name} {clause}.") };
    let third = loop {
        let third = draw.other(scenes, scene);
        if third != another {
            break third;
        }
    };
    let who = if draw.chance(70) { name.as_str() } else { pronoun.0 };
    let keep = if detailed && draw.chance(40) { format!(" {detail}") } else { String::new() };
    let hypothesis = match (class, draw.below(100)) {
        (0, 0..55) => format!("{who} {}.", scene[side][1]),
        (0, 55..88) => format!("{who} {said}{keep}."),
        (0, _) => format!("Somebody {said}{keep}."),
        (1, 0..30) => format!("{who} {} {}.", scene[side][draw.below(2)], draw.other(DETAILS, &detail)),
        (1, 30..80) => format!("{who} {}.", third[draw.below(2)][draw.below(2)]),
        (1, 80..86) => format!("{who} never {}.", third[draw.below(2)][0]),
        (1, 86..93) => format!("Somebody {}.", third[draw.below(2)][0]),
        (1, _) => format!("Nobody {}.", third[draw.below(2)][0]),
        (_, 0..40) => format!("{who} {}.", scene[1 - side][1]),
        (_, 40..60) => format!("{who} {}{keep}.", scene[1 - side][0]),
        (_, 60..82) => format!("{who} never {said}{keep}."),
        (_, _) => format!("Nobody {said}."),
    };
    let hypothesis = capital(&hypothesis);
    if premise == hypothesis { write(draw, class) } else { SyntheticRow::pair(premise, hypothesis, class) }
}

/// A name, and its pronouns.
fn subject(draw: &mut Draw, voyage: bool) -> (String, (&'static str, &'static str)) {
    let woman = draw.chance(50);
    let pronouns = if woman { ("she", "her") } else { ("he", "his") };
    let name = if voyage {
        format!("{} {}", draw.form(TITLES), draw.word(SURNAMES))
    } else {
        draw.word(if woman { WOMEN } else { MEN }).to_string()
    };
    (name, pronouns)
}
