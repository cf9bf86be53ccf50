//! Similarity of two sentences, from 5, the same meaning, by small and larger differences to 0, nothing in common.

use crate::micro::draw::Draw;
use crate::micro::generator::{Generator, SyntheticRow};
use crate::micro::words::capital;

pub(super) const GENERATOR: Generator =
    Generator { task: "stsb", train: 384, balance: &[16, 16, 16, 16, 18, 18], noise: 0, write };

/// Two ways to name each.
const ACTORS: &[[&str; 2]] = &[
    ["a man", "a guy"],
    ["a woman", "a lady"],
    ["a boy", "a young boy"],
    ["a girl", "a young girl"],
    ["a farmer", "a farm worker"],
    ["an old man", "an elderly man"],
    ["an old woman", "an elderly lady"],
    ["a small child", "a little kid"],
    ["a student", "a young student"],
    ["a tourist", "a visitor"],
];

/// A deed: two ways to say it, and the things it is done to.
struct Action {
    verbs: [&'static str; 2],
    things: &'static [&'static str],
}

/// Actions of one topic and where they happen.
struct Topic {
    actions: &'static [Action],
    places: &'static [&'static str],
}

const TOPICS: &[Topic] = &[
    Topic {
        actions: &[
            Action { verbs: ["playing", "practicing on"], things: &["a guitar", "a violin", "a piano", "a flute"] },
            Action { verbs: ["singing", "performing"], things: &["a song", "a hymn", "an old tune", "an opera"] },
            Action { verbs: ["listening to", "enjoying"], things: &["a concert", "the radio", "a choir", "a band"] },
            Action { verbs: ["selling", "trying to sell"], things: &["records", "tickets", "loudspeakers", "drums"] },
            Action { verbs: ["dancing", "doing"], things: &["a waltz", "a tango", "a folk dance", "a polka"] },
        ],
        places: &["on a stage", "in a music school", "in a concert hall", "at a festival", "in a club"],
    },
    Topic {
        actions: &[
            Action { verbs: ["slicing", "cutting up"], things: &["an onion", "a tomato", "some bread", "a carrot"] },
            Action { verbs: ["frying", "cooking"], things: &["an egg", "some fish", "potatoes", "a steak"] },
            Action { verbs: ["washing", "cleaning"], things: &["the dishes", "the glasses", "the knives", "a pot"] },
            Action { verbs: ["eating", "having"], things: &["a sandwich", "some soup", "a banana", "a bowl of rice"] },
            Action { verbs: ["pouring", "filling a cup with"], things: &["milk", "tea", "coffee", "orange juice"] },
        ],
        places: &["in a kitchen", "in a restaurant", "at home", "in a hotel", "in a cafe"],
    },
    Topic {
        actions: &[
            Action { verbs: ["throwing", "tossing"], things: &["a ball", "a frisbee", "a stick", "a dart"] },
            Action { verbs: ["riding", "going around on"], things: &["a bicycle", "a scooter", "a pony", "a moped"] },
            Action { verbs: ["climbing", "going up"], things: &["a rope", "a wall", "a ladder", "a pole"] },
            Action { verbs: ["jumping over", "leaping over"], things: &["a fence", "a hurdle", "a bench", "a puddle"] },
            Action { verbs: ["watching", "looking at"], things: &["a match", "a race", "the players", "the runners"] },
        ],
        places: &["in a stadium", "at a sports club", "in the park", "on the beach", "behind the school"],
    },
    Topic {
        actions: &[
            Action { verbs: ["repairing", "fixing"], things: &["a car", "a truck", "a tractor", "an engine"] },
            Action { verbs: ["painting", "putting paint on"], things: &["a door", "a chair", "a boat", "a gate"] },
            Action { verbs: ["carrying", "lifting up"], things: &["a box", "some bricks", "a heavy bag", "a plank"] },
            Action { verbs: ["building", "putting up"], things: &["a shed", "a garage", "a tent", "a wooden hut"] },
            Action { verbs: ["sawing", "cutting through"], things: &["a log", "a board", "a pipe", "a branch"] },
        ],
        places: &["in a yard", "in a workshop", "at the harbor", "on a building site", "near the road"],
    },
    Topic {
        actions: &[
            Action { verbs: ["feeding", "giving food to"], things: &["the ducks", "a goat", "the hens", "a donkey"] },
            Action { verbs: ["petting", "stroking"], things: &["a cat", "a puppy", "a rabbit", "a pony"] },
            Action { verbs: ["taking a photo of", "photographing"], things: &["a bird", "a fox", "a deer", "a swan"] },
            Action { verbs: ["running after", "chasing"], things: &["a dog", "a sheep", "a pig", "a goose"] },
            Action { verbs: ["planting", "digging a hole for"], things: &["a tree", "a rose", "a bush", "a shrub"] },
        ],
        places: &["on a farm", "in a garden", "in the forest", "beside a lake", "in a meadow"],
    },
];

/// Who does what to what and where.
#[derive(Clone, Copy)]
struct Scene {
    actor: &'static [&'static str; 2],
    action: &'static Action,
    thing: &'static str,
    place: &'static str,
}

fn write(draw: &mut Draw, level: usize) -> SyntheticRow {
    let topic = draw.form(TOPICS);
    let one = scene(draw, topic);
    let two = match level {
        5 => one,
        4 => Scene { place: draw.other::<&str>(topic.places, &one.place), ..one },
        3 if draw.chance(50) => Scene { thing: draw.other::<&str>(one.action.things, &one.thing), ..one },
        3 => Scene { actor: draw.other(ACTORS, one.actor), ..one },
        2 => Scene { actor: one.actor, place: one.place, ..unlike(draw, topic, &one) },
        1 => unlike(draw, topic, &one),
        _ => elsewhere(draw, topic, &one),
    };
    let change = if level == 5 { 1 + draw.below(7) } else { draw.below(8) };
    let way = draw.below(8);
    let score = (level * 5 + draw.below(5)).saturating_sub(2).min(25) as f64 / 5.0;
    SyntheticRow { first: tell(&one, way), second: Some(tell(&two, way ^ change)), label: score }
}

fn scene(draw: &mut Draw, topic: &'static Topic) -> Scene {
    let (actor, action, place) = (draw.word(ACTORS), draw.word(topic.actions), *draw.word(topic.places));
    Scene { actor, action, thing: draw.word::<&str>(action.things), place }
}

/// Another actor does something else within the topic.
fn unlike(draw: &mut Draw, topic: &'static Topic, one: &Scene) -> Scene {
    loop {
        let two = scene(draw, topic);
        if two.actor != one.actor && two.action.verbs != one.action.verbs {
            return two;
        }
    }
}

/// A scene of another topic by another actor.
fn elsewhere(draw: &mut Draw, topic: &Topic, one: &Scene) -> Scene {
    loop {
        let another = draw.form(TOPICS);
        if another.places != topic.places {
            return unlike(draw, another, one);
        }
    }
}

/// The scene as a sentence; the bits of `way` choose the words for the actor and the action, and the order.
fn tell(scene: &Scene, way: usize) -> String {
    let (actor, verb) = (scene.actor[way & 1], scene.action.verbs[way >> 1 & 1]);
    let text = match way >> 2 {
        0 => format!("{actor} is {verb} {} {}.", scene.thing, scene.place),
        _ => format!("{}, {actor} is {verb} {}.", scene.place, scene.thing),
    };
    capital(&text)
}
