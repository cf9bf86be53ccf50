//! The command line as people meet it: help, lists, and what is said to the usual slips.

mod support;

use support::{World, failure, one_line};

fn said(world: &World, arguments: &[&str]) -> String {
    let output = world.rankbench(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(world: &World, arguments: &[&str], code: i32, parts: &[&str]) {
    let (got, text) = failure(&mut world.rankbench(arguments));
    assert_eq!(got, code, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "'{part}' is not in: {text}"));
}

#[test]
fn a_store_is_watched() {
    let world = World::new();
    world.run(&["--methods", "lora", "--epochs", "1"]).assert().success();
    assert_eq!(said(&world, &["status", "out"]), said(&world, &["status", "--out", "out"]));
    assert_eq!(said(&world, &["fsck", "out"]), said(&world, &["fsck", "--out", "out"]));
    let text = said(&world, &["watch", "out"]);
    assert!(text.contains(": done, epoch 1 of 1, loss ") && text.contains("1 runs: 1 done"), "{text}");
}

/// Names of all commands, as the help lists them.
fn commands(world: &World) -> Vec<String> {
    let help = said(world, &["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| Some(line.strip_prefix("  ")?.split_whitespace().next()?.to_string());
    list.lines().filter_map(name).filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_two_examples_and_the_exit_codes() {
    let world = World::new();
    let commands = commands(&world);
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        let help = said(&world, &[&command, "--help"]);
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        let count = examples.lines().filter(|line| line.starts_with("    rankbench ")).count();
        assert!(count == 2 && help.contains("Exit codes: 0 done"), "{command}:\n{help}");
    }
}

#[test]
fn run_without_a_recipe_says_what_there_is() {
    let world = World::new();
    refused(&world, &["run"], 2, &["which recipe?", "table1", "quick", "rankbench quickstart", "--seeds 0-4"]);
    refused(&world, &["run", "tabel1"], 2, &["no recipe 'tabel1'", "quick, table1, efficiency"]);
    assert!(!world.path("results").exists());
}

#[test]
fn names_that_are_separated_by_blanks_get_their_flag() {
    let world = World::new();
    let text = ["stands by itself", "--tasks cola,rte"];
    refused(&world, &["run", "--tasks", "rte", "mrpc"], 2, &text);
    refused(&world, &["run", "table1", "--tasks", "rte", "mrpc"], 2, &text);
    refused(&world, &["run", "table1", "--methods", "lora", "SoRA"], 2, &["--methods lora,sora"]);
}

#[test]
fn everything_is_listed_and_recipes_are_printed() {
    let world = World::new();
    let text = said(&world, &["list"]);
    for part in ["Method adalora: AdaLoRA", "target_r", "CoLA", "minilm_glue", "DebertaV2", "[train]", "warmup_ratio"] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 200), "a terminal of 200 columns");
    let tasks: serde_json::Value = serde_json::from_str(&said(&world, &["list", "tasks", "--json"])).unwrap();
    assert!(tasks[0]["rows"].as_array().unwrap().iter().any(|row| row["name"] == "rte"), "{tasks}");
    let doctor: serde_json::Value = serde_json::from_str(&said(&world, &["doctor", "--json"])).unwrap();
    assert!(doctor["recipes"].as_str().unwrap().contains("table1"), "{doctor}");
    assert!(said(&world, &["recipe", "Table1"]).contains("name = \"table1\""));
    assert!(said(&world, &["recipe"]).contains("minilm_glue"));
    refused(&world, &["recipe", "nothing"], 2, &["no embedded recipe", "quick, table1"]);
}

/// `rankbench list --markdown > docs/recipes.md` writes it anew, and `rankbench list files --markdown` the data dictionary.
#[test]
fn references_are_what_the_program_says() {
    let world = World::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, command) in
        [("recipes.md", &["list", "--markdown"][..]), ("data_dictionary.md", &["list", "files", "--markdown"])]
    {
        let stored = std::fs::read_to_string(root.join("docs").join(file)).unwrap_or_default();
        let text = said(&world, command);
        assert!(text == stored, "docs/{file} is not what `rankbench {}` prints: write it anew", command.join(" "));
    }
}

/// The headers are those that `golden.rs` has seen in files.
#[test]
fn every_column_of_every_csv_file_is_in_the_data_dictionary() {
    let known = said(&World::new(), &["list", "files", "--json"]);
    let known: serde_json::Value = serde_json::from_str(&known).unwrap();
    let headers = include_str!("snapshots/golden__headers.snap").split("---\n").nth(2).unwrap();
    for line in headers.lines() {
        let (file, columns) = line.split_once(": ").unwrap();
        let sections = known.as_array().unwrap().iter();
        let of_file = sections.filter(|section| section["title"].as_str().unwrap().starts_with(&format!("{file} ")));
        let documented: Vec<&str> = of_file
            .flat_map(|section| section["rows"].as_array().unwrap())
            .filter(|row| row["meaning"].as_str().unwrap().len() > 3)
            .map(|row| row["column"].as_str().unwrap())
            .collect();
        for column in columns.split(',').filter(|column| !column.starts_with("option_")) {
            assert!(documented.contains(&column), "{column} of {file} is in no dictionary: {documented:?}");
        }
    }
}

#[test]
fn completions_and_man_pages() {
    let world = World::new();
    assert!(said(&world, &["completions", "bash"]).contains("_rankbench"));
    said(&world, &["man", "pages"]);
    assert!(world.read("pages/rankbench-run.1").contains("Exit codes"));
}

fn run_rows(world: &World) -> usize {
    world.read("out/report/results.csv").lines().count() - 1
}

/// Rows of a join of two tables of the report on all columns that they have in common.
fn merged_rows(world: &World, left: &str, right: &str) -> usize {
    let table = |name: &str| {
        let mut reader = csv::Reader::from_path(world.path(&format!("out/report/{name}.csv"))).unwrap();
        reader.deserialize().map(Result::unwrap).collect::<Vec<std::collections::BTreeMap<String, String>>>()
    };
    let (left, right) = (table(left), table(right));
    let common: Vec<&String> = left[0].keys().filter(|column| right[0].contains_key(*column)).collect();
    let is_same = |a: &std::collections::BTreeMap<String, String>, b: &std::collections::BTreeMap<String, String>| {
        common.iter().all(|column| a[*column] == b[*column])
    };
    left.iter().map(|row| right.iter().filter(|other| is_same(row, other)).count()).sum()
}

#[test]
fn a_recipe_needs_no_flag() {
    let world = World::new();
    world.recipe("");
    for command in ["plan", "tune", "ablate", "efficiency", "regression"] {
        refused(&world, &[command, "nothing"], 2, &["there is no recipe 'nothing'"]);
        let flag = if command == "ablate" { "--base" } else { "--recipe" };
        refused(&world, &[command, "tiny.toml", flag, "tiny.toml"], 2, &["cannot be used with"]);
    }
    let flags = ["--glue", "glue", "--allow-unlocked", "--device", "cpu"];
    let planned = said(&world, &[&["plan", "tiny.toml", "--no-measure"][..], &flags].concat());
    assert!(planned.contains("tiny"), "{planned}");
}

#[test]
fn a_report_covers_the_whole_store_unless_told_otherwise() {
    let world = World::new();
    world.run(&["--methods", "LoRA "]).assert().success();
    let one = run_rows(&world);
    world.run(&["--methods", "sora"]).assert().success();
    assert_eq!(run_rows(&world), 2 * one, "a run that the second command does not make is there, too");
    world.write("out/report/old_table.md", "of a later program");
    world.run(&["--methods", "sora", "--only-plan"]).assert().success();
    assert_eq!(run_rows(&world), one);
    assert!(world.path("out/report/old_table.md").exists(), "what no report wrote is kept");
    let tables: serde_json::Value = serde_json::from_str(&said(&world, &["report", "out", "--json"])).unwrap();
    assert!(tables["tables"][0]["rows"].as_array().unwrap().len() > 1, "{tables}");
    for folder in ["out", "out/runs", "out/report", "."] {
        said(&world, &["report", folder]);
        assert_eq!(run_rows(&world), 2 * one, "{folder}");
    }
    assert!(merged_rows(&world, "table1", "paired") > 0, "pandas' table1.merge(paired) has rows");
}

#[test]
fn a_folder_that_is_no_report_is_never_deleted() {
    let world = World::new();
    world.write("out/report/thesis.tex", "mine");
    let (code, text) = failure(&mut world.run(&["--methods", "lora"]));
    assert!(code == 6 && text.contains("is no report of this program"), "{code} {text}");
    assert_eq!(world.read("out/report/thesis.tex"), "mine");
    let done = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path().join("DONE");
    assert!(done.exists(), "the run is kept");
}

#[test]
fn short_flags_reach_the_runs_and_force_makes_them_again() {
    let world = World::new();
    let flags = ["--methods", "lora,adalora,sora", "--seeds", "3-4", "--lr", "0.01", "--rank", "4", "--epochs", "1"];
    world.run(&flags).assert().success();
    let runs = || std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path());
    assert_eq!(runs().count(), 6);
    for run in runs() {
        let spec = std::fs::read_to_string(run.join("run.toml")).unwrap();
        assert!(spec.contains("lr = 0.01"), "{spec}");
        let rank = if spec.contains("method = \"adalora\"") { "target_r = 4" } else { "r = 4" };
        assert!(spec.contains(rank), "{spec}");
    }
    let made = |extra: &[&str]| {
        let output = world.run(&[&flags[..], extra].concat()).output().unwrap();
        one_line(&String::from_utf8_lossy(&output.stderr))
    };
    assert!(made(&[]).contains("6 of 6 runs are finished already"));
    let again = made(&["--force"]);
    assert!(again.contains("[6/6]") && again.matches("deleted, it is made again").count() == 6, "{again}");
    assert!(again.contains("(checkpoint: epoch 1, chosen on the same rows)"), "{again}");
}

#[test]
fn export_and_import_say_what_a_folder_is_instead() {
    let world = World::new();
    world.run(&["--methods", "lora"]).assert().success();
    let export = |run: &str, part: &str| refused(&world, &["export", "--run", run, "--out", "x"], 3, &[part]);
    export("nowhere", "nowhere is not there");
    export("out", "is a folder of runs, not a run");
    export("out/runs", "is a folder of runs, not a run");
    export("out/report", "is no run: it has neither run.toml nor DONE");
    let run = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path().join("adapter");
    let adapter = run.to_str().unwrap();
    let import = ["import", "--adapter", adapter, "--backbone", "tiny", "--glue", "glue", "--task", "RTE"];
    refused(&world, &import, 2, &["was trained on sst2", "not on rte: give --task sst2"]);
}

/// A dry run of an embedded recipe on a machine that has neither its weights nor its data.
#[test]
fn a_dry_run_needs_neither_weights_nor_data() {
    let world = World::new();
    let dry = |extra: &[&str]| said(&world, &[&["run", "table1", "--device", "cpu", "--dry-run"], extra].concat());
    let text = dry(&["--tasks", "cola,qqp", "--methods", "lora,sora", "--seeds", "0-2"]);
    // 8,551 rows in batches of 8 over 20 epochs, evaluated every 1,000 steps; QQP trains on 362,846 of its 363,846.
    for part in
        ["cola", "21380", "21", "qqp", "453560", "12 runs: 0 done, 12 left", "numbers of rows are the published ones"]
    {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert!(!text.contains("Time") && text.contains("--measure"), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("cola")).count(), 6, "a line a run: {text}");
    let json: serde_json::Value = serde_json::from_str(&dry(&["--tasks", "rte", "--seeds", "0"])).unwrap_or_default();
    assert!(json.is_null(), "lines are no JSON");
    let arguments = ["run", "table1", "--tasks", "rte", "--seeds", "0", "--dry-run", "--json"];
    let json: serde_json::Value = serde_json::from_str(&said(&world, &arguments)).unwrap();
    assert_eq!((json["total"]["runs"].as_u64(), json["runs"][0]["state"].as_str()), (Some(6), Some("left")));
    let toml =
        said(&world, &["run", "table1", "--tasks", "rte", "--methods", "lora", "--seeds", "0", "--dry-run=toml"]);
    assert!(toml.contains("[options]") && toml.contains("batch_size = 32"), "{toml}");
    assert!(!world.path("results").exists(), "nothing was made");
}

#[test]
fn a_dry_run_checks_what_a_run_checks() {
    let world = World::new();
    let dry = ["run", "table1", "--tasks", "cola", "--methods", "adalora", "--dry-run"];
    let set = |text: &'static str| [&dry[..], &["--set", text]].concat();
    refused(&world, &set("adalora.options.tinit=0.7"), 2, &["tinit + tfinal"]);
    refused(&world, &set("train.lr=-1.0"), 2, &["lr is out of bounds"]);
    refused(&world, &[&dry[..], &["--glue", "nowhere"]].concat(), 3, &["nowhere"]);
    refused(&world, &[&dry[..], &["--backbone", "nothing"]].concat(), 3, &["'nothing' is not here"]);
    // With backbone and data here ranks are held against the backbone, too.
    let (code, text) = failure(&mut world.run(&["--dry-run", "--methods", "lora", "--rank", "1000"]));
    assert!(code == 2 && text.contains("rank 1000 is larger than a dimension"), "{code} {text}");
}

#[test]
fn a_dry_run_says_what_is_done_and_how_long_the_rest_takes() {
    let world = World::new();
    world.run(&["--methods", "lora"]).assert().success();
    let dry = |extra: &[&str]| {
        let output = world.run(&[&["--methods", "lora,sora"], extra].concat()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = dry(&["--dry-run"]);
    assert!(text.contains("2 runs: 1 done, 1 left; 12 steps and 2 evaluations to make"), "{text}");
    assert!(text.contains("MiB of disk") && !text.contains("Time"), "{text}");
    let timed = dry(&["--dry-run", "--measure"]);
    assert!(timed.contains("Time") && timed.contains("one run after the other"), "{timed}");
    // The state is known without the weights, too: runs are told by their settings.
    std::fs::rename(world.path("tiny"), world.path("hidden")).unwrap();
    let recipe = world.read("tiny.toml").replace(&world.path("tiny").display().to_string(), "someone/tiny");
    world.write("tiny.toml", recipe);
    let text = dry(&["--dry-run"]);
    assert!(text.contains("2 runs: 1 done, 1 left"), "{text}");
}

#[test]
fn a_threshold_that_cannot_prune_is_noted_before_the_run() {
    let world = World::new();
    let noted = |xi: &str| {
        let set = format!("sora.options.xi={xi}");
        let output = world.run(&["--methods", "sora", "--epochs", "1", "--set", &set]).output().unwrap();
        assert!(output.status.success());
        one_line(&String::from_utf8_lossy(&output.stderr))
    };
    assert!(
        noted("1e-6").contains("sst2 sora: the threshold takes at most 0.00 off a gate in 6 steps"),
        "{}",
        noted("1e-6")
    );
    assert!(noted("0.0").contains("xi is 0, so no gate becomes exactly zero"));
    let enough = noted("0.5");
    assert!(!enough.contains("note:"), "{enough}");
}

#[test]
fn doctor_rehearses_a_recipe() {
    let world = World::new();
    world.recipe("");
    let doctor = ["doctor", "--recipe", "tiny.toml", "--glue", "glue", "--allow-unlocked", "--device", "cpu"];
    let text = said(&world, &doctor);
    for part in
        ["step of sst2 lora", "step of sst2 sora", "an evaluation", "MiB free for results", "the largest run takes"]
    {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    refused(&world, &[&doctor[..], &["--methods", "lora", "--rank", "1000"]].concat(), 2, &["rank 1000 is larger"]);
}
