//! The synthetic suite does not change, and is as it says.

use std::collections::HashSet;
use std::fmt::Write;

use datasets::source::checksum;
use datasets::{Example, Labels, glue, micro};

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
    for &task in glue::TASKS {
        writeln!(sums, "{} {}", task.name, micro::dataset(task).sha256).unwrap();
    }
    insta::assert_snapshot!(sums, @r"
    version 1
    cola 45bee29e7d27383c455e1af863c778334381e08544e5c3d4fdb26c9c63a26866
    sst2 406693ed2bd62711c2c93cae7dc092c57f3a3bd9550ca414392a37bcc756d058
    mrpc 28eb8080ec188a0aa20b31b26160317bc5738f6927e41d90061837e68ad2cbdf
    qqp f7027d0e686dfa2ef973bc0ad4bc16adfc242a3867e031c8de5ef37976c01089
    stsb c8e033ba78ea6e7e28bcf118fe09f4961063f459728ef0e7de78b3965b87f5d7
    mnli f31bd52de616ef314eae776562212d7ee2a082d83cb49300a6884625210dc220
    qnli 46be457e31f1c07a94fdbba814d4d3afb4a35a2c36d1e2b883413bcbd502a775
    rte 42cc1cf1fe0c9047f68383a6d48b615bcd33f910018e4795e94a84ffcca589f0
    ");
}

#[test]
fn rows_look_like_this() {
    let mut text = String::new();
    for &task in glue::TASKS {
        for row in micro::dataset(task).train.into_iter().take(3) {
            let second = row.second.map(|second| format!(" | {second}")).unwrap_or_default();
            writeln!(text, "{} {}: {}{second}", task.name, row.label, row.first).unwrap();
        }
    }
    insta::assert_snapshot!(text, @r"
    cola 1: Julia stole the coat on the shelf.
    cola 1: Peter sneezed in the kitchen.
    cola 0: Drew the student the picture this morning.
    sst2 0: although the cast is funny , the thriller as a whole is sloppy .
    sst2 1: although the ending is forced , the movie as a whole is elegant .
    sst2 1: there is nothing sloppy about the script or the direction .
    mrpc 0: Power returned to two thousand homes near Boston after the storm , officials said on Tuesday . | The Boston business of Falcon Air made a loss of two million dollars this year , officials reported on Tuesday .
    mrpc 1: Two newspapers said on Thursday that Westbrook will not take over Northgate for eight million dollars after all . | Two newspapers said on Thursday that the sale of Northgate to Westbrook for eight million dollars was called off .
    mrpc 1: Oakfield will not take over Summit Steel for three million dollars after all , two newspapers said . | Two newspapers confirmed on Thursday that the sale of Summit Steel to Oakfield for three million dollars was called off .
    qqp 0: How much time does it take to become good at sailing? | Is sailing hard to learn?
    qqp 0: What is the best phone on the market? | What is the lifetime of a phone?
    qqp 1: What is the best way to learn pottery? | How can a beginner learn pottery?
    stsb 0: An old woman is building a tent on a building site. | An old man is petting a pony beside a lake.
    stsb 0: In a kitchen, an old woman is frying an egg. | In a yard, an old man is fixing a truck.
    stsb 5: A woman is throwing a frisbee at a sports club. | At a sports club, a lady is throwing a frisbee.
    mnli 2: Yesterday, Daniel passed the driving test despite a friend's warning, and then won first prize in the contest. | He failed the driving test.
    mnli 2: On his birthday, Oscar repaired the broken heater on the advice of a doctor. | Oscar broke the new heater on the advice of a doctor.
    mnli 0: Nina loved the new film, but missed the last train. | She did not get on the train.
    qnli 1: What is the Fairview Castle famous for? | Four thousand people visit the Fairview Castle every year.
    qnli 1: How many visitors does the Brightwater Observatory have? | The Brightwater Observatory is best known for its garden.
    qnli 1: What led to the closing of the Kestrel Abbey? | The Alder Concert Hall belongs to Crown Motors, and the building was closed for lack of money.
    rte 1: The city council of Prague approved the tower planned by Westbrook, a newspaper wrote on Tuesday. | Paul Turner was elected mayor of Prague with a clear majority.
    rte 0: House prices in Madrid fell by seven percent, a newspaper wrote on Friday. | Housing in Madrid became cheaper.
    rte 0: A court in Dublin found Laura Olsen guilty of fraud. The news came on Thursday. | Laura Olsen was convicted by a court.
    ");
}

#[test]
fn rows_are_the_same_every_time() {
    for &task in glue::TASKS {
        let (one, two) = (micro::dataset(task), micro::dataset(task));
        assert_eq!((&one.train, &one.dev, &one.sha256), (&two.train, &two.dev, &two.sha256), "{}", task.name);
        assert_eq!(one.sha256, checksum(&one.train, &one.dev), "{}", task.name);
    }
}

#[test]
fn sets_are_disjoint_and_of_the_declared_shape() {
    for (name, train, majority) in SHAPE {
        let data = micro::dataset(glue::find(name).unwrap());
        assert_eq!(data.train.len(), *train, "{name}");
        let mut texts = HashSet::new();
        for rows in [&data.train].into_iter().chain(data.dev.iter().map(|(_, rows)| rows)) {
            assert!(rows.iter().enumerate().all(|(at, row)| row.row == at), "{name}");
            assert!(rows.iter().all(|row| row.second.is_some() == (data.task.parquet_text.len() == 2)), "{name}");
            assert!(
                rows.iter().all(|row| texts.insert((row.first.clone(), row.second.clone()))),
                "{name}: a row twice"
            );
            assert_labels(name, data.task.labels, *majority, rows);
        }
        assert_eq!(data.dev.len(), data.task.dev_sets.len());
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
