//! Numbers of tables and figures against values worked out by hand.

mod support;

use std::collections::BTreeMap;

use harness::analysis::comparison::{comparison, resolutions, usual_seeds};
use harness::analysis::cost::cost;
use harness::analysis::curves::curves;
use harness::analysis::efficiency::{EfficiencyRow, TimeClaim, efficiency};
use harness::analysis::paired::{paired, smallest_p};
use harness::analysis::published::{self, TABLE1_TASKS, average, published_row};
use harness::analysis::ranks::{kinds, rank_maps};
use harness::analysis::results::{GroupResults, ResultsFrame};
use harness::analysis::score_parameters::score_panels;
use harness::analysis::stats::mean;
use harness::analysis::verdict::Verdict;
use harness::report::tables::TABLES;
use harness::store::record::{RunRecord, SetPredictions, Status};
use harness::store::rows::{EpochRow, EvalRow, PeerRound, RankRow, TimingRow};
use support::runs::{Setting, close, group, made_up, scored};

fn run(task: &str, method: &str, seed: u64, values: &[(&str, &str, f64)]) -> RunRecord {
    made_up(&Setting::default(), task, method, seed, scored(values, 100 + seed as i64, &[]))
}

fn rte(method: &str, seed: u64, accuracy: f64) -> RunRecord {
    run("rte", method, seed, &[("dev", "accuracy", accuracy)])
}

/// One finished run of each of the eight tasks; QQP and MNLI have two numbers.
fn eight_tasks(method: &str, seed: u64, shift: f64) -> Vec<RunRecord> {
    let of_task = |task: &str| -> Vec<(&str, &str, f64)> {
        match task {
            "cola" => vec![("dev", "matthews", 0.60 + shift)],
            "qqp" => vec![("dev", "accuracy", 0.90 + shift), ("dev", "f1", 0.80 + shift)],
            "stsb" => vec![("dev", "pearson", 0.70 + shift), ("dev", "spearman", 0.10)],
            "mnli" => vec![("matched", "accuracy", 0.86 + shift), ("mismatched", "accuracy", 0.84 + shift)],
            _ => vec![("dev", "accuracy", 0.80 + shift), ("dev", "f1", 0.0)],
        }
    };
    TABLE1_TASKS.iter().map(|task| run(task, method, seed, &of_task(task))).collect()
}

#[test]
fn the_published_averages_follow_from_the_published_cells() {
    let rows = published::load().unwrap();
    let printed = |row: &published::PublishedRow| row.task("average").first().map(|number| number.value);
    let recomputed = |row: &published::PublishedRow| {
        average(&TABLE1_TASKS.map(|task| mean(&row.task(task).iter().map(|n| n.value).collect::<Vec<_>>())))
    };
    let mut found: Vec<String> = Vec::new();
    for row in &rows {
        let (Some(printed), Some(recomputed)) = (printed(row), recomputed(row)) else { continue };
        if (printed - recomputed).abs() <= 0.005 + 1e-9 {
            found.push(format!("{printed:.2}"));
        }
    }
    for average in ["87.82", "88.38", "88.83", "88.71", "88.34"] {
        assert!(found.iter().any(|value| value == average), "{average} is not among {found:?}");
    }
    assert_eq!(average(&[Some(1.0); 7]), None, "an average needs all eight tasks");
}

#[test]
fn an_average_takes_qqp_and_mnli_as_the_means_of_their_numbers() {
    let runs: Vec<RunRecord> =
        [(0, 0.0), (1, 0.02)].iter().flat_map(|(s, shift)| eight_tasks("lora", *s, *shift)).collect();
    let group = group(&runs);
    let row = &group.methods[0];
    // cola 60, sst2 80, mrpc 80 and f1 unused, qqp (90 + 80) / 2, stsb 70, mnli (86 + 84) / 2, qnli 80, rte 80
    let expected = (60.0 + 80.0 + 80.0 + 85.0 + 70.0 + 85.0 + 80.0 + 80.0) / 8.0;
    let (value, tasks) = row.average();
    close(value.unwrap(), expected + 1.0);
    assert_eq!(tasks, 8);
    let seeds = row.seed_averages();
    assert_eq!(seeds.len(), 2);
    close(seeds[0], expected);
    close(seeds[1], expected + 2.0);
    let missing = group_without(&runs, "rte", 1);
    assert_eq!(missing.methods[0].seed_averages().len(), 1, "a seed without a task has no average");
    close(missing.methods[0].average().0.unwrap(), (seeds[0] * 8.0 + 7.0 * 2.0 / 2.0) / 8.0);
}

fn group_without(runs: &[RunRecord], task: &str, seed: u64) -> GroupResults {
    let kept = runs.iter().filter(|run| (run.spec.task(), run.spec.seed()) != (task, seed));
    group(&kept.cloned().collect::<Vec<_>>())
}

#[test]
fn the_rows_of_table_1() {
    let mut runs: Vec<RunRecord> =
        [0.70, 0.72, 0.74].iter().enumerate().map(|(s, v)| rte("lora", s as u64, *v)).collect();
    runs.push(made_up(&Setting::default(), "rte", "lora", 3, Status::Failed("it broke".into())));
    runs.push(made_up(&Setting::default(), "rte", "lora", 4, Status::Unfinished));
    runs.push(made_up(
        &Setting::default(),
        "rte",
        "lora",
        5,
        scored(&[("dev", "accuracy", 0.76)], 105, &["flat loss"]),
    ));
    let group = group(&runs);
    let published = published::load().unwrap();
    let methods = comparison(&group, &published, 0.5);
    assert_eq!(methods.len(), 1);
    let row = methods[0].of_task("rte").next().unwrap();
    assert_eq!((row.seeds, row.collapsed, row.failed), (4, 1, 1));
    close(row.mean.unwrap(), 73.0);
    // np.std([70, 72, 74, 76], ddof=1), stats.t.interval(.95, 3, 73, stats.sem([70, 72, 74, 76]))
    close(row.std.unwrap(), 2.581988897471611);
    assert!((row.interval_low.unwrap() - 68.891479).abs() < 1e-6, "{:?}", row.interval_low);
    assert!((row.interval_high.unwrap() - 77.108521).abs() < 1e-6, "{:?}", row.interval_high);
    close(row.resolution.unwrap(), 100.0 / 128.0);
    // 332064; (100 + 101 + 102 + 105) / 4
    assert_eq!((row.allocated, row.effective), (Some(332_064.0), Some(102.0)));
    assert_eq!((row.published, row.published_label.as_str()), (Some(85.2), "LoRA r=8"));
    let average = methods[0].of_task("average").next().unwrap();
    assert_eq!((average.seeds, average.mean, average.collapsed, average.failed), (0, None, 1, 1));
    assert_eq!(usual_seeds(&group.methods), 4);
    let splits = resolutions(&group.columns, &group.methods);
    assert_eq!(splits, [("RTE".to_string(), vec![(128, 100.0 / 128.0)])]);
    // Nothing that the publication states is otherwise: 73 is compared with 85.2.
    close(row.difference.unwrap(), -12.2);
    assert_eq!((row.verdict.as_str(), row.p, row.margin), ("differs", row.p_holm, Some(200.0 / 128.0)));
    assert_eq!(methods[0].against.counts(), [(Verdict::Differs, 1)]);
    assert_eq!(average.verdict, "not comparable");
}

#[test]
fn the_usual_number_of_seeds_is_the_commonest_the_larger_of_equals() {
    let of = |counts: &[(&str, u64)]| {
        let runs =
            counts.iter().flat_map(|(task, n)| (0..*n).map(move |s| run(task, "lora", s, &[("dev", "accuracy", 0.5)])));
        usual_seeds(&group(&runs.collect::<Vec<_>>()).methods)
    };
    assert_eq!(of(&[("rte", 2), ("sst2", 2), ("qnli", 5)]), 2);
    assert_eq!(of(&[("rte", 2), ("sst2", 3)]), 3);
    assert_eq!(usual_seeds(&[]), 0);
}

#[test]
fn the_published_row_is_of_the_same_kind_of_split_and_options() {
    let rows = published::load().unwrap();
    let label =
        |method, split, options| published_row(&rows, method, split, options).map(|row| (row.table(), row.label()));
    assert_eq!(label("adalora", "official", "").unwrap().0, "adalora_table1");
    assert_eq!(label("sora", "sora", "").unwrap().0, "sora_table1");
    assert_eq!(label("nothing", "sora", ""), None);
}

/// Predictions on eight rows labelled 1, the first `right` of them right.
fn predictions(right: usize) -> Vec<SetPredictions> {
    let values = (0..8).map(|row| f64::from(u8::from(row < right))).collect();
    let (split, dev_set) = ("test".into(), "dev".into());
    vec![SetPredictions { split, dev_set, rows: (0..8).collect(), labels: vec![1.0; 8], predictions: values }]
}

#[test]
fn differences_are_paired_by_seed() {
    let mut runs: Vec<RunRecord> = Vec::new();
    for (seed, lora, sora) in [(0, 0.50, 0.52), (1, 0.60, 0.61), (2, 0.70, 0.73), (3, 0.80, 0.84)] {
        runs.extend([rte("lora", seed, lora), rte("sora", seed, sora)]);
    }
    runs.push(rte("sora", 9, 0.99));
    let rows = paired(&group(&runs));
    assert_eq!(rows.len(), 1, "one task has no row over all tasks");
    let row = &rows[0];
    assert_eq!((row.title.as_str(), row.reference.as_str(), row.task.as_str(), row.pairs), ("SoRA", "LoRA", "rte", 4));
    // d = np.array([2, 1, 3, 4]); stats.ttest_1samp(d, 0); stats.t.interval(.95, 3, 2.5, stats.sem(d))
    close(row.difference.unwrap(), 2.5);
    close(row.std.unwrap(), 1.2909944487358056);
    assert!((row.p_t.unwrap() - 0.03046590).abs() < 1e-6, "{:?}", row.p_t);
    assert_eq!((row.p_holm, row.p_sign_flip, row.smallest_p), (row.p_t, Some(0.125), Some(0.125)));
    assert!((row.interval_low.unwrap() - 0.44573951).abs() < 1e-6, "{:?}", row.interval_low);
    assert_eq!(smallest_p(5), 0.0625);
}

#[test]
fn examples_are_compared_where_predictions_are_stored() {
    let mut runs = [rte("lora", 0, 0.5), rte("sora", 0, 0.75)];
    runs[0].predictions = predictions(4);
    runs[1].predictions = predictions(6);
    let rows = paired(&group(&runs));
    let row = &rows[0];
    // Two rows that only ours has right: stats.binomtest(0, 2).pvalue
    assert_eq!(row.mcnemar_seed, Some(0));
    close(row.p_mcnemar.unwrap(), 0.5);
    let (low, high) = (row.examples_low.unwrap(), row.examples_high.unwrap());
    assert!(low < 25.0 && 25.0 < high, "{low} to {high} lies around 2 of 8 rows");
}

#[test]
fn over_all_tasks_each_seed_is_averaged_first() {
    let mut runs = Vec::new();
    for seed in 0..3 {
        let shift = seed as f64 / 100.0;
        runs.push(rte("lora", seed, 0.5));
        runs.push(rte("adalora", seed, 0.5 + shift));
        runs.push(run("cola", "lora", seed, &[("dev", "matthews", 0.4)]));
        runs.push(run("cola", "adalora", seed, &[("dev", "matthews", 0.4 + 3.0 * shift)]));
    }
    let rows = paired(&group(&runs));
    let all = rows.iter().find(|row| row.task == "all").unwrap();
    // Seeds: (0 + 0) / 2, (1 + 3) / 2, (2 + 6) / 2.
    assert_eq!(all.pairs, 3);
    close(all.difference.unwrap(), 2.0);
    close(all.std.unwrap(), 2.0);
    // Four of six differences are not 0 and all are positive: 2 of 2^4 sign patterns reach the sum.
    assert_eq!((all.p_sign_flip, all.smallest_p), (Some(0.125), Some(2.0 / 64.0)));
}

#[test]
fn a_row_is_compared_with_the_lora_row_of_the_nearest_budget() {
    let with = |method: &str, options: &'static str, rule: &'static str, started: u64, allocated: i64| {
        let setting = Setting { options, rule, started, ..Setting::default() };
        let mut run = made_up(&setting, "rte", method, 0, scored(&[("dev", "accuracy", 0.5)], 1, &[]));
        let Status::Done(outcome) = &mut run.status else { panic!() };
        outcome.parameters.as_mut().unwrap().allocated = allocated;
        run
    };
    let runs = [
        with("lora", "r = 8", "0", 1, 800),
        with("lora", "r = 4", "1", 2, 400),
        with("lora", "r = 2", "2", 3, 200),
        with("adalora", "r = 8", "3", 4, 700),
        with("adalora", "r = 3", "4", 5, 290),
        with("adalora", "r = 1", "5", 6, 10),
        with("adalora", "r = 5", "6", 7, 566),
    ];
    let rows = paired(&group(&runs));
    let references: BTreeMap<&str, &str> =
        rows.iter().map(|row| (row.title.as_str(), row.reference.as_str())).collect();
    let expected = [
        ("AdaLoRA", "LoRA"),
        ("AdaLoRA (r=1)", "LoRA (r=2)"),
        ("AdaLoRA (r=3)", "LoRA (r=4)"),
        ("AdaLoRA (r=5)", "LoRA"),
        ("LoRA (r=2)", "LoRA"),
        ("LoRA (r=4)", "LoRA"),
    ];
    // 290 is 1.38 times from 400 and 1.45 from 200; 566 is 1.413 from 800 and 1.415 from 400.
    assert_eq!(references.into_iter().collect::<Vec<_>>(), expected);
}

fn epoch(epoch: usize, seconds: f64, task_loss: f64) -> EpochRow {
    EpochRow {
        epoch,
        steps: 4,
        seconds,
        task_loss,
        penalty: 0.0,
        tokens: 100,
        padded_tokens: 120,
        recordings: 0,
        recording_seconds: 0.0,
        peak_allocated_mib: None,
        peak_reserved_mib: None,
        peak_resident_mib: Some(100.0 * seconds),
    }
}

#[test]
fn cost_is_the_sum_over_tasks_of_the_median_over_runs() {
    let timed = |task: &str, method: &str, seed: u64, seconds: &[f64]| {
        let mut run = run(task, method, seed, &[("dev", if task == "cola" { "matthews" } else { "accuracy" }, 0.5)]);
        run.epochs = seconds.iter().enumerate().map(|(i, s)| epoch(i + 1, *s, 0.1)).collect();
        run
    };
    let runs = [
        timed("rte", "adalora", 0, &[2.0, 4.0, 3.0]),
        timed("rte", "adalora", 1, &[5.0]),
        timed("cola", "adalora", 0, &[10.0]),
        timed("rte", "sora", 0, &[2.0]),
        timed("cola", "sora", 0, &[8.0]),
        timed("sst2", "sora", 0, &[99.0]),
    ];
    let (tasks, rows) = cost(&group(&runs)).unwrap();
    assert_eq!(tasks, ["cola", "rte"], "sst2 was not run with both");
    let of = |method: &str| rows.iter().find(|row| row.title == method).unwrap();
    // rte: median of the medians 3 and 5; cola 10. SoRA over AdaLoRA: 2 / 4 and 8 / 10.
    assert_eq!((of("AdaLoRA").seconds, of("AdaLoRA").runs), (Some(14.0), 3));
    assert_eq!(of("SoRA").seconds, Some(10.0));
    close(of("SoRA").ratio.unwrap(), 0.65);
    // Tokens a second of each run: 300 / 9, 100 / 5, 100 / 10; their median.
    close(of("AdaLoRA").tokens_per_second.unwrap(), 20.0);
    assert_eq!(of("AdaLoRA").peak_resident_mib, Some(1000.0));
    // 12 s of wall time: 9 training, 2 evaluation, 1 other.
    let shares = of("SoRA").shares().unwrap();
    assert_eq!(shares.iter().map(|share| share.0).collect::<Vec<_>>(), ["training", "evaluation", "other"]);
    close(shares[0].1, 75.0);
    close(of("SoRA").wall_seconds.unwrap(), 12.0);
}

fn timing(method: &str, repeat: usize, seconds: f64, recordings: usize) -> TimingRow {
    TimingRow {
        method: method.into(),
        variant: String::new(),
        task: "rte".into(),
        repeat,
        epoch: 1,
        seconds,
        phase: if method == "sora" && repeat > 2 { "late".into() } else { String::new() },
        recordings,
        product_seconds: None,
        steps: 4,
        tokens: 100,
        operations: Some(1e12),
        product_rate: Some(4e12),
        joules: Some(50.0 * seconds),
        peak_allocated_mib: None,
        peak_reserved_mib: None,
        peak_resident_mib: Some(10.0 * repeat as f64),
        allocated: 8,
        effective: 8 - repeat as i64,
        batch_size: 32,
        length: 64,
        device: "cpu".into(),
        driver: String::new(),
        precision: "fp32".into(),
    }
}

#[test]
fn efficiency_pairs_the_epochs_of_a_round() {
    let mut timings = Vec::new();
    for (repeat, ours, reference, recordings) in
        [(1, 9.0, 1.0, 1), (2, 1.4, 2.0, 0), (3, 2.1, 3.0, 0), (4, 2.8, 4.0, 0)]
    {
        timings.push(timing("adalora", repeat, reference, 0));
        timings.push(timing("sora", repeat, ours, recordings));
    }
    let peers = [("sora", 0.9), ("adalora", 1.0)].map(|(method, seconds)| PeerRound {
        device: "gpu".into(),
        precision: "bf16".into(),
        batch: 8,
        length: 128,
        setup: "eager".into(),
        method: method.into(),
        round: 1,
        seconds_per_step: seconds,
    });
    let rows = efficiency(&timings, &peers);
    let of = |own: bool, method: &str| rows.iter().find(|row| row.is_own() == own && row.method == method).unwrap();
    let ours = of(true, "sora");
    assert_eq!((ours.epochs, ours.epochs_with_recording), (3, 1), "an epoch with a recording is left out");
    close(ours.median_seconds.unwrap(), 2.1);
    close(ours.quartile1.unwrap(), 1.75);
    close(ours.quartile3.unwrap(), 2.45);
    close(ours.ratio.unwrap(), 0.7);
    close(ours.ratio_low.unwrap(), 0.7);
    close(ours.tokens_per_second.unwrap(), 300.0 / 6.3);
    close(ours.teraflops.unwrap(), 3.0 / 6.3);
    close(ours.product_share.unwrap(), 100.0 * 0.75 / 6.3);
    close(ours.median_joules.unwrap(), 50.0 * 2.1);
    assert_eq!((ours.peak_resident_mib, ours.allocated, ours.effective), (Some(40.0), Some(8), Some(4)));
    assert_eq!(ours.by_phase, "late 2.450", "rounds 3 and 4");
    assert_eq!(ours.time_claim(), Some(TimeClaim::Holds));
    assert_eq!(of(true, "adalora").time_claim(), None);
    let peer = of(false, "sora");
    close(peer.ratio.unwrap(), 0.9);
    close(peer.tokens_per_second.unwrap(), 1024.0 / 0.9);
    assert_eq!(peer.time_claim(), Some(TimeClaim::TooFewRounds));
    let claim = |low: f64, high: f64| {
        EfficiencyRow { ratio_low: Some(low), ratio_high: Some(high), ..ours.clone() }.time_claim()
    };
    assert_eq!(claim(0.4, 0.64), Some(TimeClaim::Faster));
    assert_eq!(claim(0.76, 0.9), Some(TimeClaim::Slower));
    assert_eq!(claim(0.6, 0.7), Some(TimeClaim::Undecided));
}

#[test]
fn every_variant_timed_is_a_row_of_its_own_beside_one_reference() {
    let mut timings = Vec::new();
    for repeat in 1..=3 {
        timings.push(timing("adalora", repeat, 2.0, 0));
        for (variant, seconds) in [("r=16", 1.4), ("r=8", 1.0)] {
            timings.push(TimingRow { variant: variant.into(), ..timing("sora", repeat, seconds, 0) });
        }
    }
    let rows = efficiency(&timings, &[]);
    let found: Vec<(&str, f64)> = rows.iter().map(|row| (row.title.as_str(), row.ratio.unwrap())).collect();
    assert_eq!(found, [("AdaLoRA", 1.0), ("SoRA (r=16)", 0.7), ("SoRA (r=8)", 0.5)]);
    let table = TABLES.iter().find(|table| table.name() == "efficiency").unwrap();
    let docs = table.build(&ResultsFrame { timings, ..ResultsFrame::of_runs(Vec::new()) }).unwrap();
    let sentences = docs[0].notes.iter().filter(|note| note.contains("ratio 0.") && note.starts_with("The claim "));
    assert_eq!(sentences.count(), 1, "the claim is about the first variant");
}

#[test]
fn curves_are_means_where_every_finished_run_has_a_point() {
    let with = |seed: u64, status: Option<Status>, values: &[f64]| {
        let mut run = rte("lora", seed, 0.5);
        run.status = status.unwrap_or(run.status);
        run.epochs = values.iter().enumerate().map(|(i, v)| epoch(i + 1, 1.0, *v)).collect();
        let eval = |split: &str, i: usize, value: f64| EvalRow {
            step: i,
            epoch: i as f64,
            split: split.into(),
            dev_set: "dev".into(),
            metric: "accuracy".into(),
            value,
            effective_parameters: 1,
        };
        let of = |(i, v): (usize, &f64)| [eval("test", i + 1, 0.0), eval("validation", i + 1, *v)];
        run.evals = values.iter().enumerate().flat_map(of).collect();
        run
    };
    let runs = [with(0, None, &[0.2, 0.4]), with(1, None, &[0.4, 0.8, 0.9]), with(2, Some(Status::Unfinished), &[0.9])];
    let tasks = curves(&group(&runs));
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].title.as_str(), tasks[0].metric.as_str()), ("RTE", "accuracy"));
    let scores = &tasks[0].scores[0];
    let sound: Vec<bool> = scores.curves.iter().map(|curve| curve.is_sound).collect();
    assert_eq!(sound.iter().filter(|sound| **sound).count(), 2);
    let mean: Vec<(f64, i64)> = scores.mean.iter().map(|p| (p.0, (p.1 * 1e6).round() as i64)).collect();
    assert_eq!(mean, [(1.0, 30_000_000), (2.0, 60_000_000)]);
    let losses: Vec<(f64, i64)> = tasks[0].losses[0].mean.iter().map(|p| (p.0, (p.1 * 1e6).round() as i64)).collect();
    assert_eq!(losses, [(1.0, 300_000), (2.0, 600_000)]);
}

#[test]
fn ranks_are_those_of_the_selected_step() {
    let with = |seed: u64, steps: &[(usize, i64)]| {
        let mut run = rte("sora", seed, 0.5);
        let of = |(step, rank): &(usize, i64)| {
            ["output", "query", "odd"].map(|kind| RankRow {
                step: *step,
                module: format!("layer.0.{kind}"),
                layer: 0,
                kind: kind.into(),
                rank: if kind == "odd" { 1 } else { *rank },
                max_rank: 8,
                mean_abs_gate: None,
            })
        };
        run.ranks = steps.iter().flat_map(of).collect();
        run
    };
    // The selected step is 96; a run without ranks there has those of its last step.
    let maps = rank_maps(
        &group(&[with(0, &[(48, 8), (96, 6), (144, 2)]), with(1, &[(48, 8), (90, 3)]), with(2, &[])]).methods,
    );
    assert_eq!(maps.len(), 1);
    assert_eq!((maps[0].runs, maps[0].largest), (2, 8));
    close(maps[0].tiles[&("query".to_string(), 0)], 4.5);
    close(maps[0].mean, (4.5 + 4.5 + 1.0) / 3.0);
    assert_eq!(kinds(&maps), ["query", "output", "odd"]);
}

#[test]
fn points_of_score_and_parameters_have_their_spread() {
    let mut runs: Vec<RunRecord> = [(0, 0.70), (2, 0.74)].iter().map(|(s, v)| rte("lora", *s, *v)).collect();
    runs.push(made_up(&Setting::default(), "rte", "sora", 0, scored(&[("dev", "accuracy", 0.5)], 7, &["flat loss"])));
    let panels = score_panels(&group(&runs));
    assert_eq!(panels.len(), 1, "no average of one task");
    let (title, points) = &panels[0];
    assert_eq!((title.as_str(), points.len()), ("RTE", 2));
    close(points[0].score.0, 72.0);
    close(points[0].score.1, 8f64.sqrt());
    close(points[0].parameters.0, 101.0);
    close(points[0].parameters.1, 2f64.sqrt());
    assert_eq!((points[1].parameters, points[1].score, points[1].collapsed), ((7.0, 0.0), (50.0, 0.0), true));
    let averages: Vec<RunRecord> = eight_tasks("lora", 0, 0.0);
    let panels = score_panels(&group(&averages));
    let (title, points) = panels.last().unwrap();
    assert_eq!(title, "Average of the eight tasks");
    close(points[0].score.0, 77.5);
}

#[test]
fn groups_are_told_apart_by_data_weights_and_split() {
    let other = |setting: Setting| made_up(&setting, "rte", "lora", 0, scored(&[("dev", "accuracy", 0.5)], 1, &[]));
    let runs = [
        other(Setting::default()),
        other(Setting { source: "micro", ..Setting::default() }),
        other(Setting { weights: "ab", ..Setting::default() }),
        other(Setting { split: "sora", ..Setting::default() }),
        other(Setting { backbone: "another name of known weights", ..Setting::default() }),
    ];
    let frame = ResultsFrame::of_records(&runs);
    assert_eq!(frame.groups.len(), 4);
    assert_eq!(frame.runs.len(), 5);
}
