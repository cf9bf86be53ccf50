//! The synthetic suite does not change, and is as it says.

use std::collections::HashSet;
use std::fmt::Write;

use datasets::dataset::checksum;
use datasets::micro;
use datasets::tasks;
use datasets::{Example, Labels};

/// Training rows, and the share of the largest class in percent (none for a score).
const SHAPE: &[(&str, usize, Option<usize>)] = &[
    ("cola", 384, Some(70)),
    ("sst2", 512, Some(52)),
    ("mrpc", 384, Some(68)),
    ("qqp", 448, Some(63)),
    ("stsb", 384, None),
    ("mnli", 512, Some(34)),
    ("qnli", 448, Some(50)),
    ("rte", 384, Some(50)),
];

/// Other rows make other numbers: whoever changes a generator raises `micro::VERSION` and takes the new sums from here.
#[test]
fn rows_have_not_changed() {
    let mut sums = format!("version {}\n", micro::VERSION);
    for task in micro::tasks().map(|name| tasks::find(name).unwrap()) {
        writeln!(sums, "{} {}", task.name, micro::dataset(task).unwrap().sha256).unwrap();
    }
    insta::assert_snapshot!(sums, @r"
    version 1
    cola 9cc94a17bfa6f27c6b544828649f83a09b875a3954f41912932d409c6544087e
    sst2 b4c90f3cdbfb4dea5c5fc53e28ff302049b73d9785be9e99d8ccba7c8551e80e
    mrpc 8b9eb406896420dd52ad1e060f0f5be50028bceb49e68fb03f6e255c7c0f3e8a
    qqp f29572e295665db474e8260b84177d80c653affc465bff4f68cfc8ac54fc9756
    stsb a0fbce02999be28f6085026135f7bd584f6c64980ad6349ccf2b51290ef2ffa5
    mnli cf67045724f76444d98ee88abd228e3af9ef2354f34a3ca5faadfb132462113c
    qnli f7a8b2e637550c649ba8b47ef202bd7df35027d5120557629b7a091ebc7c1707
    rte 1db5a1711084ec4ec9c67952bd16788815cd9889c83f3b4a9893a3adf413666e
    ");
}

#[test]
fn rows_look_like_this() {
    let mut text = String::new();
    for task in micro::tasks().map(|name| tasks::find(name).unwrap()) {
        for row in micro::dataset(task).unwrap().train.into_iter().take(3) {
            let second = row.second.map(|second| format!(" | {second}")).unwrap_or_default();
            writeln!(text, "{} {}: {}{second}", task.name, row.label, row.first).unwrap();
        }
    }
    insta::assert_snapshot!(text, @r"
    cola 1: The doctor drew the picture last week.
    cola 1: The writer should choose the coat.
    cola 0: The maps of the lawyer is on the table.
    sst2 0: although the cast is funny , the thriller as a whole is sloppy .
    sst2 1: although the ending is forced , the movie as a whole is elegant .
    sst2 1: there is nothing sloppy about the script or the direction .
    mrpc 0: Power returned to two thousand homes near Boston after the storm . | The Boston business of Falcon Air made a loss of two million dollars this year on Tuesday .
    mrpc 1: Westbrook will not take over Northgate for eight million dollars after all . | The sale of Northgate to Westbrook for eight million dollars was called off .
    mrpc 1: Oakfield will not take over Summit Steel for three million dollars after all , two newspapers said . | Two newspapers said the sale of Summit Steel to Oakfield for three million dollars was called off .
    qqp 0: How much time does it take to become good at sailing? | Just wondering: Is sailing hard to learn?
    qqp 0: Quick question: How cold does it get in Berlin in winter? | Quick question: How much is the rent for a flat in Berlin?
    qqp 1: How expensive are rented apartments in Sydney? | What does it cost to rent an apartment in Sydney?
    stsb 0: An old woman is building a tent on a building site. | An old man is petting a pony beside a lake.
    stsb 0: In a kitchen, an old woman is frying an egg. | In a yard, an old man is fixing a truck.
    stsb 5: A woman is throwing a frisbee at a sports club. | At a sports club, a lady is throwing a frisbee.
    mnli 2: Yesterday, Daniel passed the driving test, and then won first prize in the contest. | Nobody passed the driving test.
    mnli 2: On his birthday, Daniel repaired the broken heater on the advice of a colleague. | Daniel never repaired the broken heater on the advice of a colleague.
    mnli 0: Nina missed the last train. | Somebody missed the last train.
    qnli 1: What is the Fairview Castle famous for? | Four thousand people visit the Fairview Castle every year.
    qnli 1: How many visitors does the Brightwater Observatory have? | The Brightwater Observatory is best known for its garden.
    qnli 1: What led to the closing of the Kestrel Abbey? | The Alder Concert Hall was closed after a fire.
    rte 1: The city council of Prague approved the tower planned by Westbrook. | Daniel Fischer was elected mayor of Vienna with a clear majority.
    rte 0: David Keller has resigned as head of Westbrook in Chicago. | There is no doubt that David Keller has resigned as head of Westbrook in Chicago.
    rte 0: The police in Madrid arrested Laura Marino at the airport, a newspaper wrote. | Laura Marino was taken to prison.
    ");
}

#[test]
fn rows_are_the_same_every_time() {
    for task in micro::tasks().map(|name| tasks::find(name).unwrap()) {
        let (one, two) = (micro::dataset(task).unwrap(), micro::dataset(task).unwrap());
        assert_eq!((&one.train, &one.dev, &one.sha256), (&two.train, &two.dev, &two.sha256), "{}", task.name);
        assert_eq!(one.sha256, checksum(&one.train, &one.dev), "{}", task.name);
    }
}

#[test]
fn sets_are_disjoint_and_of_the_declared_shape() {
    for (name, train, majority) in SHAPE {
        let data = micro::dataset(tasks::find(name).unwrap()).unwrap();
        assert_eq!(data.train.len(), *train, "{name}");
        let mut texts = HashSet::new();
        for rows in [&data.train].into_iter().chain(data.dev.iter().map(|(_, rows)| rows)) {
            assert!(rows.iter().enumerate().all(|(at, row)| row.row == at), "{name}");
            assert!(rows.iter().all(|row| row.second.is_some() == data.task.is_pair()), "{name}");
            assert!(
                rows.iter().all(|row| texts.insert((row.first.clone(), row.second.clone()))),
                "{name}: a row twice"
            );
            assert_labels(name, data.task.labels, *majority, rows);
        }
        assert_eq!(data.dev.len(), data.task.dev_sets().len());
        assert!(data.dev.iter().all(|(_, rows)| rows.len() >= 128), "{name}: a metric would be too coarse");
    }
}

fn assert_labels(name: &str, labels: Labels, majority: Option<usize>, rows: &[Example]) {
    match labels {
        Labels::Score(low, high) => {
            assert!(rows.iter().all(|row| (low..=high).contains(&row.label)), "{name}");
            assert!(majority.is_none());
        }
        Labels::Classes(names) => {
            let count = |class: usize| rows.iter().filter(|row| row.label == class as f64).count();
            let counts: Vec<usize> = (0..names.len()).map(count).collect();
            assert_eq!(counts.iter().sum::<usize>(), rows.len(), "{name}: {counts:?}");
            let share = counts.iter().max().unwrap() * 100 / rows.len();
            // Turned labels move the share by a few points.
            assert!(share.abs_diff(majority.unwrap()) <= 5, "{name}: {share} %");
        }
    }
}

#[test]
fn a_task_without_a_generator_says_so() {
    let error = micro::dataset(tasks::find("boolq").unwrap()).unwrap_err();
    insta::assert_snapshot!(error, @"task boolq has no synthetic rows: take real ones, or one of cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte");
}
