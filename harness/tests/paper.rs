//! The paper's tables and figures through the binary, on tiny data: grids and their precedence, the plan, stages of a schedule and how
//! they resume, ablation and tuning.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::store::rows::GateRow;
use support::process::{ended_or_killed, process};
use support::{World, failure};

/// Output of `--dry-run=toml`: the resolved runs, by label.
fn planned(world: &World, extra: &[&str]) -> Vec<toml::Table> {
    let output = world.run(&[&["--dry-run=toml"], extra].concat()).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    text.split("# ").skip(1).map(|run| toml::from_str(run.split_once('\n').unwrap().1).unwrap()).collect()
}

fn labels(runs: &[toml::Table]) -> Vec<String> {
    let text = |run: &toml::Table, key: &str| run.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_string();
    runs.iter().map(|run| format!("{} {}", text(run, "method"), text(run, "label"))).collect()
}

#[test]
fn flags_stand_over_grids_grids_over_overrides_and_set_over_all() {
    let world = World::new();
    world.recipe("[grid]\n\"train.epochs\" = [3, 4]\n[[override]]\ntrain = { epochs = 9, lr = 0.5 }\noptions = {}\n");
    let only = ["--methods", "lora"];
    let epochs = |extra: &[&str]| -> Vec<i64> {
        planned(&world, &[&only, extra].concat()).iter().map(|r| r["train"]["epochs"].as_integer().unwrap()).collect()
    };
    assert_eq!(epochs(&[]), [3, 4], "a grid stands over the recipe and its overrides");
    assert_eq!(epochs(&["--epochs", "5"]), [5], "a flag stands over a grid");
    assert_eq!(epochs(&["--epochs", "5", "--set", "train.epochs=6,7"]), [6, 7], "--set stands over a flag");
    let runs = planned(&world, &[&only[..], &["--set", "train.lr=0.25"]].concat());
    assert_eq!(labels(&runs), ["lora epochs=3", "lora epochs=4"], "one value is no axis");
    assert!(runs.iter().all(|run| run["train"]["lr"].as_float() == Some(0.25)));
}

/// `--rank` is an option of every method with a rank, and stands over a grid as every flag does.
#[test]
fn a_rank_stands_over_a_grid_of_ranks() {
    let world = World::new();
    world.recipe("[grid]\n\"options.r\" = [1, 2]\n");
    let runs = planned(&world, &["--methods", "lora,dora,dylora,sora,adalora,bitfit", "--rank", "4"]);
    let ranks = |run: &toml::Table| {
        let option = |key: &str| run["options"].get(key).and_then(toml::Value::as_integer);
        (run["method"].as_str().unwrap().to_string(), option("r").or(option("target_r")))
    };
    let of = |method: &str, rank| (method.to_string(), rank);
    let expected = ["lora", "dora", "dylora", "sora", "adalora"].map(|method| of(method, Some(4)));
    assert_eq!(runs.iter().map(ranks).collect::<Vec<_>>(), [&expected[..], &[of("bitfit", None)]].concat());
}

#[test]
fn lists_multiply_and_reach_the_methods_that_have_the_option() {
    let world = World::new();
    let runs = planned(&world, &["--set", "options.r=2,4", "--set", "sora.options.xi=1e-3,1e-2"]);
    let expected = [
        "lora r=2",
        "lora r=4",
        "adalora ",
        "sora r=2 xi=0.001",
        "sora r=2 xi=0.01",
        "sora r=4 xi=0.001",
        "sora r=4 xi=0.01",
    ];
    assert_eq!(labels(&runs), expected);
    let paper = planned(&world, &["--methods", "sora", "--variant", "paper"]);
    assert_eq!(paper[0]["options"]["variant"].as_str(), Some("paper"));
    let says = |set: &str, wanted: &str| {
        let (code, text) = failure(&mut world.run(&["--set", set]));
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
    };
    says("options.rank=2", "no method of lora, adalora, sora has the option of `options.rank`");
    says("lora.options.xi=2", "`options.xi`");
    says("epochs=2", "`epochs` cannot be set");
    says("train.epoch=2", "did you mean `epochs`?");
    says("options.r", "expected [METHOD.]key=value");
}

#[test]
fn a_label_is_stored_and_changes_no_id() {
    let world = World::new();
    let only = ["--methods", "lora", "--epochs", "1"];
    world.run(&[&only[..], &["--set", "options.r=2,8"]].concat()).assert().success();
    let runs = || -> Vec<String> {
        let dir = std::fs::read_dir(world.path("out/runs")).unwrap();
        let mut ids: Vec<String> = dir.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        ids.sort();
        ids
    };
    let before = runs();
    assert_eq!(before.len(), 2);
    // The default rank is 8: the same run without a label.
    let again = world.run(&only).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stderr).contains("1 of 1 runs are finished already"));
    assert_eq!(runs(), before);
    assert!(world.read("out/report/results.csv").contains(",lora,base,LoRA,"), "its row in this report has no label");
    world.rankbench(&["report", "--out", "out"]).assert().success();
    let results = world.read("out/report/results.csv");
    assert!(results.contains(",lora,r=2,") && results.contains(",lora,r=8,"), "{results}");
    // The stored recipe gives the same runs.
    let stored = world.path("out/recipes/tiny.toml");
    world.run(&[&only[..], &["--set", "options.r=2,8"]].concat()).assert().success();
    let stored = stored.to_str().unwrap();
    let glue = ["--glue", "glue", "--out", "out", "--device", "cpu", "--allow-unlocked"];
    let same = world.rankbench(&[&["run", "--recipe", stored], &glue[..]].concat()).assert().success();
    assert!(String::from_utf8_lossy(&same.get_output().stderr).contains("2 of 2 runs are finished already"));
    assert!(world.read("out/report/table2.md").contains("Table 2, ranks"));
}

#[test]
fn a_plan_counts_and_measures() {
    let world = World::new();
    world.recipe("");
    let plan = |extra: &[&str]| {
        let flags = ["plan", "--recipe", "tiny.toml", "--device", "cpu", "--glue", "glue", "--allow-unlocked"];
        let output = world.rankbench(&[&flags, extra].concat()).assert().success();
        String::from_utf8_lossy(&output.get_output().stdout).into_owned()
    };
    let text = plan(&["--no-measure", "--seeds", "0,1"]);
    // 48 rows in batches of 8 over two epochs: 12 steps and 2 evaluations a run.
    assert!(text.contains("6 runs, 72 steps, 12 evaluations."), "{text}");
    assert!(!text.contains("Estimated"), "{text}");
    let csv = plan(&["--no-measure", "--csv"]);
    assert!(csv.starts_with("task,method,variant,runs,steps,evaluations,"), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json", "--seeds", "0,1"])).unwrap();
    let (total, rows) = (&json["total"], json["rows"].as_array().unwrap());
    assert_eq!((total["runs"].as_u64(), total["steps"].as_u64(), rows.len()), (Some(6), Some(72), 3));
    let seconds: f64 = rows.iter().map(|row| row["seconds"].as_f64().unwrap()).sum();
    assert!(seconds > 0.0 && (seconds - total["seconds"].as_f64().unwrap()).abs() < 1e-9);
    assert!(rows.iter().all(|row| row["peak_mib"].as_f64().unwrap() > 1.0));
    assert!(!world.path("out").exists(), "a plan makes no run");
}

/// A schedule of three stages; SoRA alone.
fn staged(world: &World, rate: &str) {
    world.recipe(&format!(
        "[[override]]\nmethods = ['sora']\ntrain = {{ stages = {{ count = 3, epochs = 2, rate = '{rate}' }} }}\n\
         options = {{ l1_weight = 1e-3, xi = 0.0, xi_schedule = {{ spacing = 'linear', max = 8e-2, stages = 3 }} }}\n"
    ));
    let text = world.read("tiny.toml").replace("[\"lora\", \"adalora\", \"sora\"]", "[\"sora\"]");
    world.write("tiny.toml", text);
}

fn stages(world: &World, out: &str) -> Vec<BTreeMap<String, String>> {
    let run = std::fs::read_dir(world.path(out).join("runs")).unwrap().next().unwrap().unwrap().path();
    let mut reader = csv::Reader::from_path(run.join("stages.csv")).unwrap();
    let rows = reader.deserialize::<BTreeMap<String, String>>();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_schedule_is_scored_at_the_end_of_each_stage() {
    let world = World::new();
    staged(&world, "released");
    world.run(&[]).assert().success();
    let rows = stages(&world, "out");
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    let number = |name: &str| -> Vec<f64> { column(name).iter().map(|text| text.parse().unwrap()).collect() };
    assert_eq!(column("stage"), ["1", "2", "3"]);
    assert_eq!(number("schedule_value"), [0.0, 0.04, 0.08]);
    // 6 steps an epoch: 2 epochs in each of three stages.
    assert_eq!(column("step"), ["12", "24", "36"]);
    let effective = number("effective");
    assert!(effective[0] > effective[1] && effective[1] >= effective[2], "gates shrink: {effective:?}");
    let ranks = world.read(&format!("{}/ranks.csv", run_dir(&world, "out")));
    let is_full = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        fields[4] == fields[5]
    };
    assert!(
        ranks.lines().skip(1).all(is_full),
        "nothing is pruned with xi = 0, and later stages have no rows: {ranks}"
    );
    for name in ["schedule.md", "schedule.csv", "figures/schedule.png"] {
        assert!(world.path(&format!("out/report/{name}")).exists(), "{name}");
    }
    let epochs = world.read(&format!("{}/epochs.csv", run_dir(&world, "out")));
    assert_eq!(epochs.lines().count(), 1 + 6, "every stage's epochs are kept");
}

#[test]
fn gates_of_the_first_stage_have_the_step_of_its_selected_checkpoint() {
    let world = World::new();
    staged(&world, "released");
    // The first evaluation is the best: a rate of almost nothing changes no prediction, and the first of equals is selected.
    world.run(&["--set", "train.lr=1e-9"]).assert().success();
    let file = |name: &str| world.read(&format!("{}/{name}", run_dir(&world, "out")));
    let outcome: serde_json::Value = serde_json::from_str(&file("outcome.json")).unwrap();
    assert_eq!(outcome["results"][0]["selected_step"], 6, "the first of two epochs");
    let gates = file("gates.csv");
    let mut reader = csv::Reader::from_reader(gates.as_bytes());
    let rows: Vec<GateRow> = reader.deserialize().collect::<Result<_, _>>().unwrap();
    let mut steps: Vec<usize> = rows.iter().map(|row| row.step).collect();
    steps.dedup();
    assert_eq!(steps, [6, 24, 36]);
}

fn run_dir(world: &World, out: &str) -> String {
    let run = std::fs::read_dir(world.path(out).join("runs")).unwrap().next().unwrap().unwrap();
    format!("{out}/runs/{}", run.file_name().to_string_lossy())
}

#[test]
fn stages_that_do_not_fit_the_method_are_refused() {
    let world = World::new();
    staged(&world, "released");
    let says = |extra: &[&str], wanted: &str| {
        let (code, text) = failure(&mut world.run(extra));
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
    };
    says(&["--set", "train.stages.count=4"], "train.stages.count is 4, but the options of sora make 3");
    says(&["--set", "options.xi_schedule.stages=2"], "train.stages.count is 3, but the options of sora make 2");
    says(&["--set", "train.stages.count=1"], "stages.count is out of bounds");
    says(&["--set", "train.stages.rate=warm"], "warm");
}

#[test]
fn a_schedule_that_is_killed_again_and_again_ends_as_an_undisturbed_one() {
    let world = World::new();
    staged(&world, "rewarm");
    let text = world.read("tiny.toml").replace("epochs = 2", "epochs = 12");
    world.write("tiny.toml", text);
    let started = Instant::now();
    world.run(&["--out", "whole"]).assert().success();
    let whole = started.elapsed();
    let mut killed = 0;
    loop {
        let command = world.run(&["--out", "torn", "--checkpoint-every", "0"]);
        let mut child = process(&command).spawn().unwrap();
        let wait = whole.mul_f64(0.35 + 0.05 * f64::from(killed));
        let until = Instant::now() + if killed < 6 { wait } else { Duration::from_secs(300) };
        let status = ended_or_killed(&mut child, until);
        if status.success() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 0, "it was never killed");
    assert_eq!(stages(&world, "whole"), stages(&world, "torn"), "after {killed} kills");
    let read = |out: &str, name: &str| std::fs::read(world.path(&run_dir(&world, out)).join(name)).unwrap();
    for name in
        ["ranks.csv", "evals.csv", "steps.csv", "gates.csv", "predictions.csv", "adapter/adapter_model.safetensors"]
    {
        assert!(read("whole", name) == read("torn", name), "{name} differs after {killed} kills");
    }
}

#[test]
fn an_ablation_flips_each_switch_alone() {
    let world = World::new();
    world.recipe("");
    let flags =
        ["ablate", "--base", "tiny.toml", "--device", "cpu", "--glue", "glue", "--allow-unlocked", "--out", "out"];
    let flips = ["--flip", "D3,final_phase,order", "--seeds", "0,1,2", "--epochs", "1"];
    let output = world.rankbench(&[&flags[..], &flips].concat()).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    for wanted in ["D3 variant=paper", "D3 subgradient: xi=0.0", "D15 final_phase=peft", "O16 order=grouped"] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    // Base and order for three methods, final phase for AdaLoRA, variant and subgradient for SoRA.
    assert_eq!(std::fs::read_dir(world.path("out/runs")).unwrap().count(), 3 * (3 * 2 + 3));
    let rows = world.read("out/report/ablation.csv");
    assert!(rows.lines().any(|line| line.contains("sora,D3,subgradient: xi=0.0,sst2,3,")), "{rows}");
    let (code, text) = failure(&mut world.rankbench(&[&flags[..], &["--flip", "D8"]].concat()));
    assert!(code == 2 && text.contains("other test rows"), "{text}");
}

#[test]
fn tuning_tries_as_many_settings_for_every_method() {
    let world = World::new();
    world.recipe("[grid]\n'train.lr' = [1e-3, 2e-2]\n");
    let flags =
        ["tune", "--recipe", "tiny.toml", "--device", "cpu", "--glue", "glue", "--allow-unlocked", "--out", "out"];
    let output = world.rankbench(&[&flags[..], &["--seeds", "0,1,2", "--epochs", "1"]].concat()).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(text.contains("n = 2") && text.contains("2 runs,"), "{text}");
    // Two trials on the first seed and the chosen one on two further seeds, for three methods.
    assert_eq!(std::fs::read_dir(world.path("out/runs")).unwrap().count(), 3 * (2 + 2));
    assert!(world.path("out/report/figures/score_by_rate.png").exists());
    let unequal = ["--set", "sora.options.xi=1e-3,1e-2"];
    let (code, text) = failure(&mut world.rankbench(&[&flags[..], &unequal].concat()));
    assert!(code == 2 && text.contains("the same number of trials"), "{text}");
}

/// Damages one stored run of a command and starts the command again: it names the run before its first step, makes the rest, and
/// says by its code that a run of its own is missing.
#[test]
fn damage_is_named_before_tuning_and_ablation_go_on() {
    let common = ["--device", "cpu", "--glue", "glue", "--allow-unlocked", "--out", "out", "--epochs", "1"];
    let ablate = [&["ablate", "--base", "tiny.toml", "--flip", "order", "--methods", "lora"][..], &common].concat();
    let tune = [&["tune", "--recipe", "tiny.toml", "--methods", "lora"][..], &common].concat();
    for (command, recipe) in [(ablate, ""), (tune, "[grid]\n'train.lr' = [1e-3, 2e-2]\n")] {
        let world = World::new();
        world.recipe(recipe);
        world.rankbench(&command).assert().success();
        let runs: Vec<_> = std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path()).collect();
        assert_eq!(runs.len(), 2);
        std::fs::write(runs[0].join("evals.csv"), "step").unwrap();
        std::fs::remove_dir_all(&runs[1]).unwrap();
        let (code, text) = failure(&mut world.rankbench(&command));
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(place("damaged: out/runs/sst2-lora") < place("[1/1] sst2 lora seed 0"), "{text}");
        assert!(code == 3 && text.contains("1 of 2 runs are stored and not as they were written"), "{code} {text}");
        assert!(runs[1].join("DONE").is_file() && world.path("out/report/report.html").is_file());
    }
}

/// The trial whose result is unknown may be the best.
#[test]
fn nothing_is_chosen_while_a_trial_is_damaged() {
    let world = World::new();
    world.recipe("[grid]\n'train.lr' = [1e-3, 2e-2]\n");
    let tune =
        ["tune", "--recipe", "tiny.toml", "--methods", "lora", "--seeds", "0,1", "--epochs", "1", "--device", "cpu"];
    let tune = [&tune[..], &["--glue", "glue", "--allow-unlocked", "--out", "out"]].concat();
    world.rankbench(&tune).assert().success();
    let of_seed = |seed: &str| {
        let runs = std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path());
        runs.filter(|run| run.to_string_lossy().contains(seed)).collect::<Vec<_>>()
    };
    assert_eq!((of_seed("-s0-").len(), of_seed("-s1-").len()), (2, 1));
    std::fs::write(of_seed("-s0-")[0].join("evals.csv"), "step").unwrap();
    std::fs::remove_dir_all(&of_seed("-s1-")[0]).unwrap();
    let (code, text) = failure(&mut world.rankbench(&tune));
    assert!(code == 3 && text.contains("nothing is chosen, and no further seed made"), "{code} {text}");
    assert_eq!(of_seed("-s1-").len(), 0);
}
