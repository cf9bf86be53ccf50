//! Runs made elsewhere: the rows of a split, what is taken and refused, and how a run that was added stands beside ours.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::store::sums::sums;
use support::process::run_dirs;
use support::{World, failure, one_line};

type Line = BTreeMap<String, String>;

fn lines(text: &str) -> Vec<Line> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
}

fn said(world: &World, arguments: &[&str]) -> String {
    let output = world.rankbench(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    one_line(&String::from_utf8_lossy(&output.stdout))
}

/// Arguments of `rankbench add` for a run of `mine` on SST-2 of this world, whose split is the official one.
fn add<'a>(seed: &'a str, predictions: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["add", "--method", "mine", "--task", "sst2", "--seed", seed, "--predictions", predictions];
    let data = ["--policy", "official", "--glue", "glue", "--allow-unlocked", "--out", "out"];
    [&fixed[..], &data, more].concat()
}

/// Three LoRA runs on SST-2 in `out`.
fn with_lora() -> (World, Vec<PathBuf>) {
    let world = World::new();
    world.run(&["--methods", "lora", "--seeds", "0-2"]).assert().success();
    let dirs = run_dirs(&world, "out");
    (world, dirs)
}

const KNOWN: [&str; 4] = ["--backbone", "tiny", "--title", "My method"];

#[test]
fn the_rows_of_a_split_are_those_that_the_runs_use() {
    let (world, dirs) = with_lora();
    let split = |more: &[&str]| {
        let fixed = ["split", "--task", "SST2", "--glue", "glue", "--allow-unlocked", "--out", "split.csv"];
        let said = said(&world, &[&fixed[..], more].concat());
        (said, lines(&world.read("split.csv")))
    };
    let (said, official) = split(&["--policy", "official"]);
    assert_eq!(said, "split.csv: 48 train, 16 dev validation, 16 dev test rows");
    let own = lines(&std::fs::read_to_string(dirs[0].join("predictions.csv")).unwrap());
    let rows = |lines: &[Line], split: &str| {
        let of_split = lines.iter().filter(|line| line["split"] == split);
        of_split.map(|line| line["row"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&official, "validation"), rows(&own, "validation"));
    assert!(official.iter().all(|line| line["task"] == "sst2" && !line.contains_key("first")));
    let (said, sora) = split(&["--text"]);
    assert_eq!(said, "split.csv: 39 train, 9 dev validation, 16 dev test rows");
    let file = |split: &str| sora.iter().find(|line| line["split"] == split).unwrap()["file"].clone();
    let files = ["train", "validation", "test"].map(file);
    assert_eq!(
        files,
        ["SST-2/train.tsv", "SST-2/train.tsv", "SST-2/dev.tsv"],
        "a large task validates on training rows"
    );
    for line in &sora {
        let text = world.read(&format!("glue/{}", line["file"]));
        let row = text.lines().nth(1 + line["row"].parse::<usize>().unwrap()).unwrap();
        assert_eq!(row, format!("{}\t{}", line["first"], line["label"]));
    }
}

#[test]
fn a_run_made_elsewhere_stands_in_tables_and_tests_as_external() {
    let (world, dirs) = with_lora();
    for (seed, dir) in ["0", "1", "2"].into_iter().zip(&dirs) {
        let file = dir.join("predictions.csv");
        let text = said(&world, &add(seed, file.to_str().unwrap(), &KNOWN));
        assert!(
            text.contains("SST-2: development set accuracy") && text.contains("(16 rows) added: out/runs/sst2-mine-s"),
            "{text}"
        );
    }
    let text = said(&world, &["fsck", "--out", "out"]);
    assert!(text.contains("6 runs are whole"), "{text}");
    let text = said(&world, &["show", "sst2-mine-s1", "--out", "out"]);
    assert!(text.contains("method My method (external)"), "{text}");
    let text = said(&world, &["watch", "out", "--once"]);
    assert!(text.contains("6 runs: 6 done") && text.contains("My method, made elsewhere: done"), "{text}");
    said(&world, &["report", "out"]);

    let table = world.read("out/report/table1.md");
    assert!(table.contains("My method (external)"), "{table}");
    let results = lines(&world.read("out/report/results.csv"));
    let of = |method: &str| results.iter().filter(|line| line["method"] == method).cloned().collect::<Vec<_>>();
    let (ours, mine) = (of("lora"), of("mine"));
    assert_eq!((ours.len(), mine.len()), (3, 3));
    for (ours, mine) in ours.iter().zip(&mine) {
        assert_eq!(ours["value"], mine["value"], "the same predictions have the same score");
        assert_eq!(
            (mine["origin"].as_str(), mine["variant"].as_str(), ours["origin"].as_str()),
            ("external", "external", "here")
        );
        let unknown =
            ["lr", "epochs", "batch_size", "precision", "steps", "selected_step", "allocated", "effective", "head"];
        let times = ["epoch_seconds", "wall_seconds", "training_seconds", "tokens_per_second", "peak_resident_mib"];
        for column in unknown.iter().chain(&times).chain(&["numerics", "device", "commit", "libtorch", "tokenizer"]) {
            assert_eq!(mine[*column], "", "{column}");
        }
    }
    let paired = lines(&world.read("out/report/paired.csv"));
    let against: Vec<&Line> = paired.iter().filter(|line| line["method"] == "mine" && line["task"] == "sst2").collect();
    assert_eq!((against[0]["reference"].as_str(), against[0]["pairs"].as_str()), ("LoRA", "3"));
    assert_eq!(against[0]["paired_difference"], "0");
    let times = lines(&world.read("out/report/run_times.csv"));
    assert!(times.iter().all(|line| line["method"] == "lora"), "it has no time: {times:?}");
}

#[test]
fn one_of_our_methods_made_elsewhere_is_a_row_of_its_own_and_no_reference() {
    let (world, dirs) = with_lora();
    let file = dirs[0].join("predictions.csv");
    let mut arguments = add("0", file.to_str().unwrap(), &["--backbone", "tiny", "--lr", "0.02", "--option", "r=8"]);
    arguments[2] = "lora";
    said(&world, &arguments);
    said(&world, &["report", "out"]);
    let table = lines(&world.read("out/report/table1.csv"));
    let titles: Vec<&str> =
        table.iter().filter(|line| line["task"] == "sst2").map(|line| line["title"].as_str()).collect();
    assert_eq!(titles, ["LoRA", "LoRA (external)"]);
    let row = |title: &str| table.iter().find(|line| line["title"] == title && line["task"] == "sst2").unwrap();
    assert!(row("LoRA (external)")["reasons"].contains("precision is not stated"), "{:?}", row("LoRA (external)"));
    assert!(!row("LoRA")["reasons"].contains("is not stated"));
    let results = lines(&world.read("out/report/results.csv"));
    let external = results.iter().find(|line| line["origin"] == "external").unwrap();
    assert_eq!((external["lr"].as_str(), external["option_r"].as_str()), ("0.02", "8"));
    let paired = lines(&world.read("out/report/paired.csv"));
    assert!(paired.iter().all(|line| line["title"] == "LoRA (external)" && line["reference"] == "LoRA"), "{paired:?}");
}

#[test]
fn a_run_without_a_known_backbone_stands_alone() {
    let (world, dirs) = with_lora();
    let output = world.rankbench(&add("0", dirs[0].join("predictions.csv").to_str().unwrap(), &[])).output().unwrap();
    let note = one_line(&String::from_utf8_lossy(&output.stderr));
    assert!(note.contains("the weights of its backbone are not known"), "{note}");
    said(&world, &["report", "out"]);
    let table = world.read("out/report/table1.md");
    assert!(table.contains("backbone not stated, split official"), "{table}");
    assert!(!world.path("out/report/paired.csv").exists(), "there is no pair");
}

#[test]
fn the_same_run_twice_is_one_and_another_is_refused_unless_forced() {
    let (world, dirs) = with_lora();
    let own = std::fs::read_to_string(dirs[0].join("predictions.csv")).unwrap();
    world.write("mine.csv", &own);
    let first = said(&world, &add("0", "mine.csv", &KNOWN));
    assert!(first.contains("added: out/runs/sst2-mine-s0-"), "{first}");
    world.write("copy.csv", &own);
    assert!(said(&world, &add("0", "copy.csv", &KNOWN)).contains("there already: out/runs/sst2-mine-s0-"));

    let other: String =
        own.lines().map(|line| line.replace(",1.0,0.0", ",1.0,1.0").replace(",0.0,0.0", ",0.0,1.0") + "\n").collect();
    world.write("other.csv", other);
    let (code, text) = failure(&mut world.rankbench(&add("0", "other.csv", &KNOWN)));
    assert!(code == 2 && text.contains("is not this run") && text.contains("--force"), "{code} {text}");
    let forced = said(&world, &add("0", "other.csv", &[&KNOWN[..], &["--force"]].concat()));
    assert!(forced.contains("replaced:"), "{forced}");
    assert!(said(&world, &["fsck", "--out", "out"]).contains("4 runs are whole"));
    // Another setting is another run.
    assert!(said(&world, &add("0", "mine.csv", &[&KNOWN[..], &["--lr", "0.1"]].concat())).contains("added:"));
}

#[test]
fn predictions_that_are_not_the_splits_are_refused_by_name_and_count() {
    let (world, dirs) = with_lora();
    let own = std::fs::read_to_string(dirs[0].join("predictions.csv")).unwrap();
    let rows: Vec<&str> = own.lines().collect();
    let broken = [rows[0], rows[3], rows[3], "validation,dev,16,1,1"].join("\n");
    world.write("broken.csv", broken);
    let (code, text) = failure(&mut world.rankbench(&add("0", "broken.csv", &KNOWN)));
    assert_eq!(code, 3, "{text}");
    for part in [
        "each of its 16 rows once, got 3 lines",
        "15 missing (row",
        "1 given more than once",
        "1 not of this split (row 16)",
    ] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    world.write("typo.csv", own.replace("prediction", "predicted"));
    let (code, text) = failure(&mut world.rankbench(&add("0", "typo.csv", &KNOWN)));
    assert!(
        code == 3 && text.contains("line 1: unknown column 'predicted'") && text.contains("did you mean 'prediction'"),
        "{text}"
    );
    let (code, text) = failure(&mut world.rankbench(&add("0", "typo.csv", &["--max-length", "8"])));
    assert!(code == 2 && text.contains("--adapter"), "an option of adapters is not ignored: {text}");
    assert_eq!(run_dirs(&world, "out").len(), 3);
}

#[test]
fn an_adapter_is_evaluated_here() {
    let (world, dirs) = with_lora();
    let adapter = dirs[0].join("adapter");
    let fixed = ["add", "--method", "mine", "--task", "sst2", "--seed", "0", "--adapter", adapter.to_str().unwrap()];
    let data = ["--policy", "official", "--glue", "glue", "--allow-unlocked", "--out", "out", "--max-length", "16"];
    said(&world, &[&fixed[..], &data, &["--device", "cpu"], &KNOWN].concat());
    let mine = run_dirs(&world, "out").into_iter().find(|dir| dir.to_string_lossy().contains("-mine-")).unwrap();
    let read = |dir: &PathBuf| std::fs::read_to_string(dir.join("predictions.csv")).unwrap();
    assert_eq!(read(&mine), read(&dirs[0]), "the adapter predicts what its run did");
    assert!(mine.join("adapter/adapter_model.safetensors").is_file());
    assert!(said(&world, &["fsck", "--out", "out"]).contains("4 runs are whole"));
}

#[test]
fn an_edited_external_run_is_damaged() {
    let (world, dirs) = with_lora();
    said(&world, &add("0", dirs[0].join("predictions.csv").to_str().unwrap(), &KNOWN));
    let mine = run_dirs(&world, "out").into_iter().find(|dir| dir.to_string_lossy().contains("-mine-")).unwrap();
    let spec = std::fs::read_to_string(mine.join("run.toml")).unwrap();
    std::fs::write(mine.join("run.toml"), spec.replace("seed = 0", "seed = 7")).unwrap();
    std::fs::remove_file(mine.join("added.json")).unwrap();
    let output = world.rankbench(&["fsck", "--out", "out"]).output().unwrap();
    let text = one_line(&String::from_utf8_lossy(&output.stdout));
    assert!(text.contains("run.toml is that of sst2-mine-s7-") && text.contains("added.json is missing"), "{text}");
}

fn verify<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["verify", run, "--out", "out", "--glue", "glue", "--backbone", "tiny"][..], more].concat()
}

fn name(dir: &std::path::Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_run_that_repeats_is_verified() {
    let (world, dirs) = with_lora();
    let run = name(&dirs[1]);
    let text = said(&world, &verify(&run, &[]));
    for part in [
        "the same data (glue-unlocked): ",
        "the same weights (tiny): ",
        "epoch 2, mean over steps 7 to 12: equal to the last digit",
        "the losses of the first 12 steps repeat to the last digit",
    ] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert!(!text.contains("not the same"), "{text}");
    let one = said(&world, &verify(dirs[1].to_str().unwrap(), &["--steps", "3"]));
    assert!(one.contains("first 6 steps repeat") && !one.contains("epoch 2"), "{one}");
    let mut command = world.rankbench(&verify(&run, &[]));
    let text = one_line(&String::from_utf8_lossy(&command.env("OMP_NUM_THREADS", "2").output().unwrap().stdout));
    assert!(text.contains("not the same: threads 1 then, 2 now"), "{text}");
}

#[test]
fn a_run_that_does_not_repeat_ends_with_4_and_other_inputs_with_3() {
    let (world, dirs) = with_lora();
    let run = name(&dirs[0]);
    // A loss that its run never had, under honest sums.
    let path = dirs[0].join("epochs.csv");
    let epochs = lines(&std::fs::read_to_string(&path).unwrap());
    let loss: f64 = epochs[1]["task_loss"].parse().unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace(&epochs[1]["task_loss"], &loss.next_up().to_string());
    std::fs::write(&path, text).unwrap();
    std::fs::write(dirs[0].join("DONE"), sums(&dirs[0]).unwrap()).unwrap();
    let (code, text) = failure(&mut world.rankbench(&verify(&run, &[])));
    assert!(
        code == 4 && text.contains("does not repeat: over steps 7 to 12 the mean task loss differs by -"),
        "{code} {text}"
    );
    assert!(text.contains("nothing that is stored of program and machine is another"), "{text}");

    world.write("glue/SST-2/dev.tsv", support::sst2(12));
    let (code, text) = failure(&mut world.rankbench(&verify(&run, &[])));
    assert!(code == 3 && text.contains("made from other inputs. data (glue-unlocked): "), "{code} {text}");
}

#[test]
fn only_a_whole_run_that_was_made_here_is_verified() {
    let (world, dirs) = with_lora();
    said(&world, &add("0", dirs[0].join("predictions.csv").to_str().unwrap(), &KNOWN));
    let mine = run_dirs(&world, "out").into_iter().find(|dir| dir.to_string_lossy().contains("-mine-")).unwrap();
    let refused = |run: &str, part: &str| {
        let (code, text) = failure(&mut world.rankbench(&verify(run, &[])));
        assert!(code == 3 && text.contains(part), "{code} {text}");
    };
    refused(&name(&mine), "made by another program");
    std::fs::write(dirs[0].join("predictions.csv"), "x").unwrap();
    refused(&name(&dirs[0]), "cannot be made again: ");
    std::fs::remove_file(dirs[1].join("DONE")).unwrap();
    refused(&name(&dirs[1]), "it is not finished");
}

#[test]
fn a_run_is_verified_by_the_beginning_of_its_id() {
    let (world, dirs) = with_lora();
    let [first, second] = [name(&dirs[0]), name(&dirs[1])];
    let text = said(&world, &verify("sst2-lora-s0", &[]));
    assert!(text.contains(&format!("{first}: the losses of the first 12 steps repeat")), "{text}");
    let (code, text) = failure(&mut world.rankbench(&verify("sst2-lora", &[])));
    assert!(code == 2 && text.contains("runs of out/runs begin with 'sst2-lora': "), "{code} {text}");
    assert!(text.contains(&first) && text.contains(&second), "{text}");
    let (code, text) = failure(&mut world.rankbench(&verify("nothing", &[])));
    assert!(code == 2 && text.contains("no run of out/runs begins with 'nothing'"), "{code} {text}");
}
