//! Numbers of the paper's tables and figures against values worked out by hand.

mod support;

use harness::analysis::ablation::ablation;
use harness::analysis::claims::Claims;
use harness::analysis::paired::paired;
use harness::analysis::published::{self, TABLE1_TASKS};
use harness::analysis::rank_agreement::{agreement_rows, task_ranks};
use harness::analysis::rank_sweep::{rank_sweep, sweep_rows};
use harness::analysis::results::ResultsFrame;
use harness::analysis::schedule::{kept_by_row, schedules};
use harness::analysis::tuning::{searches, tuned_rows};
use harness::store::record::{RunRecord, Status};
use harness::store::rows::{EvalRow, RankRow, StageRow};
use support::runs::{Setting, close, group, made_up, scored};

fn done(accuracy: f64, effective: i64) -> Status {
    scored(&[("dev", "accuracy", accuracy)], effective, &[])
}

/// A run of RTE whose recipe gave it this label.
fn labelled(method: &str, label: &str, options: &'static str, seed: u64, status: Status) -> RunRecord {
    let setting = Setting { options, split: "sora", ..Setting::default() };
    let mut run = made_up(&setting, "rte", method, seed, status);
    run.spec.made_mut().unwrap().label = label.into();
    run
}

fn stage(stage: usize, [memorisation, generalisation, test]: [f64; 3], effective: i64) -> StageRow {
    StageRow {
        stage,
        schedule_value: Some(1e-4 * stage as f64),
        step: 10 * stage,
        dev_set: "dev".into(),
        metric: "accuracy".into(),
        memorisation,
        generalisation,
        test,
        allocated: 1_000_000,
        effective,
        as_published: effective + 7,
    }
}

#[test]
fn stages_in_percent_of_the_first_and_the_turning_point() {
    let run = |seed, stages: Vec<StageRow>| {
        let mut run = labelled("sora", "spacing=linear", "r = 8", seed, done(0.8, 90_000));
        run.spec.made_mut().unwrap().task = "sst2".into();
        run.stages = stages;
        run
    };
    let mut runs = vec![
        run(
            0,
            vec![
                stage(1, [1.0, 0.8, 0.8], 90_000),
                stage(2, [0.9, 0.8, 0.796], 40_000),
                stage(3, [0.5, 0.4, 0.6], 10_000),
            ],
        ),
        run(
            1,
            vec![
                stage(1, [0.8, 0.5, 0.6], 80_000),
                stage(2, [0.8, 0.5, 0.6], 36_000),
                stage(3, [0.4, 0.5, 0.3], 20_000),
            ],
        ),
    ];
    let tasks = schedules(&group(&runs));
    let curve = &tasks[0].curves[0];
    assert_eq!((curve.points.len(), curve.runs, curve.left_out), (3, 2, 0));
    let [first, second, third] = [&curve.points[0], &curve.points[1], &curve.points[2]];
    close(first.generalisation, 100.0);
    close(second.memorisation, (90.0 + 100.0) / 2.0);
    close(second.test, (99.5 + 100.0) / 2.0);
    close(third.generalisation, (50.0 + 100.0) / 2.0);
    close(third.effective, 15_000.0);
    close(third.as_published, 15_007.0);
    assert_eq!(curve.turning_point().map(|point| point.stage), Some(2));
    // At most 40,000 values: stages 2 (38,000) and 3 (15,000); the better test score counts.
    let (values, percent) = kept_by_row(&tasks, "sst2")["SoRA (spacing=linear)"];
    close(values, 38_000.0);
    close(percent, 99.75);
    // A run that scored nothing, and one that lacks a stage, are no curve.
    runs.push(run(2, vec![stage(1, [0.8, 0.0, 0.6], 1), stage(2, [0.8, 0.5, 0.6], 1), stage(3, [0.8, 0.5, 0.6], 1)]));
    runs.push(run(3, vec![stage(1, [0.8, 0.5, 0.6], 1)]));
    let curve = schedules(&group(&runs)).remove(0).curves.remove(0);
    assert_eq!((curve.runs, curve.left_out), (2, 2));
    close(curve.points[2].effective, 15_000.0);
}

#[test]
fn ranks_side_by_side_with_their_counts_and_published_rows() {
    let mut runs = Vec::new();
    for (label, options, accuracy, effective) in
        [("r=4", "r = 4", 0.70, 400), ("r=8", "r = 8", 0.72, 800), ("r=16", "r = 16", 0.73, 1600)]
    {
        for seed in 0..2 {
            runs.push(labelled(
                "sora",
                label,
                options,
                seed,
                done(accuracy + 0.02 * seed as f64, effective + seed as i64),
            ));
        }
    }
    runs.push(labelled("lora", "", "r = 8", 0, done(0.7, 900)));
    let group = group(&runs);
    let rows = sweep_rows(&group);
    assert_eq!(rows.iter().map(|row| row.rank).collect::<Vec<_>>(), [4, 8, 16], "by rank; LoRA has one only");
    let numbers = rank_sweep(&group, &rows, &published::load().unwrap());
    let of = |rank: i64, task: &str| numbers.iter().find(|n| n.rank == rank && n.task == task).unwrap();
    let four = of(4, "rte");
    close(four.score.unwrap(), 71.0);
    // np.std([70, 72], ddof=1)
    close(four.std.unwrap(), 2f64.sqrt());
    close(four.effective.unwrap(), 400.5);
    assert_eq!((four.published, four.published_status.as_str()), (Some(86.04), "second-hand"));
    assert_eq!(of(8, "rte").published, Some(87.77));
    assert_eq!(of(16, "rte").published, None, "no published row states this rank");
    assert_eq!(of(4, "average").score, None, "an average needs all eight tasks");
}

fn with_ranks(seed: u64, ranks: [i64; 4]) -> RunRecord {
    let mut run = labelled("sora", "", "r = 8", seed, done(0.8, 100));
    let row = |(index, rank): (usize, &i64)| RankRow {
        step: 96,
        module: format!("m{index}"),
        layer: index / 2,
        kind: ["query", "value"][index % 2].into(),
        rank: *rank,
        max_rank: 8,
        mean_abs_gate: None,
    };
    run.ranks = ranks.iter().enumerate().map(row).collect();
    run
}

#[test]
fn agreement_is_over_every_two_seeds() {
    let runs = [with_ranks(0, [1, 2, 3, 4]), with_ranks(1, [1, 2, 4, 3]), with_ranks(2, [8, 8, 8, 8])];
    let group = group(&runs);
    let maps = task_ranks(&group);
    let rows = agreement_rows(&group, &maps);
    let row = &rows[0];
    // scipy.stats.spearmanr([1, 2, 3, 4], [1, 2, 4, 3]).statistic; the third seed's ranks are all equal.
    assert_eq!((row.pairs, row.runs), (1, 3));
    close(row.agreement.unwrap(), 0.8);
    // layer 0 query: (1 + 1 + 8) / 3
    close(maps[0].map.tiles[&("query".to_string(), 0)], 10.0 / 3.0);
    close(row.mean_rank, (10.0 + 10.0 + 32.0) / 12.0);
    assert_eq!((row.largest_kind.as_str(), row.smallest_kind.as_str()), ("value", "query"));
    let full = [with_ranks(0, [8, 8, 8, 8])];
    assert!(task_ranks(&self::group(&full)).is_empty(), "nothing was pruned");
}

#[test]
fn a_flip_is_paired_with_its_methods_base_row() {
    let mut runs = Vec::new();
    for (seed, shift) in [0.01, 0.03, 0.02].into_iter().enumerate() {
        let seed = seed as u64;
        runs.push(labelled("sora", "", "r = 8", seed, done(0.70 + 0.05 * seed as f64, 1000)));
        runs.push(labelled(
            "sora",
            "D3 variant=paper",
            "r = 8, variant = 'paper'",
            seed,
            done(0.70 + 0.05 * seed as f64 + shift, 500),
        ));
        runs.push(labelled("lora", "D16 decay_order=after", "r = 8", seed, done(0.5, 1000)));
    }
    let rows = ablation(&group(&runs));
    assert_eq!(rows.len(), 1, "LoRA has no base row");
    let row = &rows[0];
    assert_eq!((row.divergence.as_str(), row.flip.as_str(), row.pairs), ("D3", "variant=paper", 3));
    close(row.difference.unwrap(), 2.0);
    // stats.ttest_1samp([1, 3, 2], 0).pvalue
    assert!((row.p_t.unwrap() - 0.074_179_900_227_448_6).abs() < 1e-9, "{:?}", row.p_t);
    close(row.p_holm.unwrap(), row.p_t.unwrap());
    assert_eq!((row.effective_base, row.effective), (Some(1000.0), Some(500.0)));
}

/// A trial: validation and test accuracy.
fn trial(method: &str, lr: f64, seed: u64, validation: f64, test: f64) -> RunRecord {
    let setting = Setting { lr, split: "sora", ..Setting::default() };
    let mut run = made_up(&setting, "rte", method, seed, done(test, 100));
    run.spec.made_mut().unwrap().label = format!("lr={lr}");
    run.evals = vec![EvalRow {
        step: 96,
        epoch: 3.0,
        split: "validation".into(),
        dev_set: "dev".into(),
        metric: "accuracy".into(),
        value: validation,
        effective_parameters: 100,
    }];
    run
}

#[test]
fn validation_alone_chooses_and_only_the_trial_seeds_count() {
    let runs = [
        trial("lora", 1e-3, 0, 0.70, 0.99),
        trial("lora", 2e-3, 0, 0.80, 0.60),
        trial("lora", 4e-3, 0, 0.75, 0.80),
        // Made after the choice: of the chosen setting only.
        trial("lora", 2e-3, 1, 0.10, 0.70),
    ];
    let group = group(&runs);
    let searches = searches(&group);
    let search = &searches[0];
    assert_eq!((search.trials.len(), search.seeds.len(), search.runs), (3, 1, 3));
    close(search.seconds, 3.0 * 12.0);
    let best = search.best().unwrap();
    assert_eq!((best.label, best.scores.len()), ("lr=0.002", 2));
    close(best.validation.unwrap(), 80.0);
    let rows = tuned_rows(&searches);
    close(rows[0].cells["rte"].score().unwrap(), 65.0);
    assert_eq!(rows[0].title, "LoRA (tuned)");
}

#[test]
fn chosen_settings_are_compared_with_each_other_and_lone_trials_with_nothing() {
    let mut runs = vec![trial("lora", 1e-3, 0, 0.70, 0.50), trial("sora", 2e-3, 0, 0.60, 0.90)];
    for (seed, [lora, sora]) in [[0.60, 0.65], [0.62, 0.66], [0.61, 0.68]].into_iter().enumerate() {
        runs.push(trial("lora", 2e-3, seed as u64, 0.80, lora));
        runs.push(trial("sora", 1e-3, seed as u64, 0.80, sora));
    }
    let rows = paired(&group(&runs));
    let of_task = |task: &'static str| rows.iter().filter(move |row| row.task == task);
    let pairs: Vec<(&str, &str)> = of_task("rte").map(|row| (row.title.as_str(), row.reference.as_str())).collect();
    let (tuned, made) = ("LoRA (tuned)", ["LoRA (lr=0.002)", "SoRA (lr=0.001)"]);
    assert_eq!(pairs, [("SoRA (tuned)", tuned), (made[0], tuned), (made[1], tuned)]);
    close(rows[0].difference.unwrap(), 16.0 / 3.0);
}

#[test]
fn a_claim_is_decided_by_all_eight_tasks_on_the_published_backbone() {
    let runs_of = |split: &'static str, tasks: &[&str]| {
        let mut runs = Vec::new();
        for (method, options, shift) in [("lora", "r = 8", 0.0), ("sora", "r = 8", 0.02)] {
            for seed in 0..3u64 {
                for task in tasks {
                    let setting = Setting { options, split, ..Setting::default() };
                    let value = 0.7 + shift + 0.001 * seed as f64 * if method == "sora" { 1.5 } else { 1.0 };
                    let values: Vec<(&str, &str, f64)> = match *task {
                        "cola" => vec![("dev", "matthews", value)],
                        "stsb" => vec![("dev", "pearson", value)],
                        "qqp" => vec![("dev", "accuracy", value), ("dev", "f1", value)],
                        "mnli" => vec![("matched", "accuracy", value), ("mismatched", "accuracy", value)],
                        _ => vec![("dev", "accuracy", value)],
                    };
                    runs.push(made_up(&setting, task, method, seed, scored(&values, 100, &[])));
                }
            }
        }
        runs
    };
    let row = |runs: &[RunRecord], claim: &str| {
        let frame = ResultsFrame::of_records(runs);
        let claims = Claims::of(&frame).unwrap();
        let mut rows = frame.groups.iter().flat_map(|group| claims.of_group(group));
        rows.find(|row| row.claim == claim).unwrap()
    };
    let all = row(&runs_of("sora", &TABLE1_TASKS), "sora_above_lora");
    assert_eq!((all.word.as_str(), all.n), ("holds", 3));
    // Differences 2.00, 2.05, 2.10.
    close(all.ours.unwrap(), 2.05);
    // stats.t.interval(.95, 2, 2.05, stats.sem([2, 2.05, 2.1])): half width 0.124207
    assert!((all.low.unwrap() - 1.925_793).abs() < 1e-5, "{:?}", all.low);
    let few = row(&runs_of("sora", &TABLE1_TASKS[..4]), "sora_above_lora");
    assert_eq!((few.word.as_str(), few.reasons.as_str()), ("not comparable", "4 of the 8 tasks"));
    let ratio = row(&runs_of("sora", &TABLE1_TASKS), "sora_parameters");
    close(ratio.ours.unwrap(), 1.0);
    assert_eq!(ratio.word, "fails");
}
