//! A sweep as lines of a plan, which jobs of a cluster make.

mod support;

use std::path::Path;

use support::process::run_dirs;
use support::{World, failure};

const PLAN: [&str; 6] = ["--tasks", "sst2,rte", "--methods", "lora,sora", "--write-plan", "plan.jsonl"];

fn stdout(command: &mut assert_cmd::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn predictions(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("predictions.csv")).unwrap()
}

#[test]
fn lines_of_a_plan_make_the_runs_of_the_sweep() {
    let world = World::new();
    let text = stdout(&mut world.run(&PLAN));
    assert!(text.contains("plan.jsonl: 4 lines") && !world.path("out").exists(), "{text}");
    let status = |world: &World| stdout(&mut world.rankbench(&["status", "--plan", "plan.jsonl"]));
    assert!(status(&world).contains("out/runs: 4 runs: 4 not begun"), "{}", status(&world));
    // By flag and by each scheduler's variable.
    let plan = ["run", "--plan", "plan.jsonl"];
    world.rankbench(&[&plan[..], &["--index", "2"]].concat()).assert().success();
    assert!(status(&world).contains("1 done, 3 not begun"), "{}", status(&world));
    for (name, index) in [("SLURM_ARRAY_TASK_ID", "0"), ("HQ_TASK_ID", "1"), ("JOB_COMPLETION_INDEX", "3")] {
        world.rankbench(&plan).env(name, index).assert().success();
    }
    assert!(status(&world).contains("4 runs: 4 done"), "{}", status(&world));
    assert!(!world.path("out/report").exists(), "jobs write no report");
    world.run(&["--tasks", "sst2,rte", "--methods", "lora,sora", "--out", "alone"]).assert().success();
    let (jobs, alone) = (run_dirs(&world, "out"), run_dirs(&world, "alone"));
    assert_eq!(jobs.len(), 4);
    for (job, alone) in jobs.iter().zip(&alone) {
        assert_eq!(job.file_name(), alone.file_name());
        assert_eq!(predictions(job), predictions(alone));
    }
    world.rankbench(&["report", "--out", "out"]).assert().success();
    assert_eq!(world.read("out/report/table1.csv"), world.read("alone/report/table1.csv"));
}

/// Seconds and memory of a measured plan are what a scheduler asks for.
#[test]
fn a_measured_plan_says_seconds_and_memory() {
    let world = World::new();
    stdout(&mut world.run(&[&PLAN[..], &["--measure"]].concat()));
    for line in world.read("plan.jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["seconds"].as_f64().unwrap() > 0.0 && line["memory_mib"].as_f64().unwrap() > 0.0, "{line}");
        assert!(!line["arguments"].as_array().unwrap().contains(&"--measure".into()), "{line}");
    }
    world.rankbench(&["run", "--plan", "plan.jsonl", "--index", "0"]).assert().success();
    stdout(&mut world.rankbench(&["submit", "slurm", "--plan", "plan.jsonl", "--dry-run"]));
    // A tiny run takes less than a minute: one, and five more.
    assert!(world.read("slurm/plan.sh").contains("#SBATCH --time=6\n"), "{}", world.read("slurm/plan.sh"));
    stdout(&mut world.run(&PLAN));
    stdout(&mut world.rankbench(&["submit", "slurm", "--plan", "plan.jsonl", "--dry-run"]));
    assert!(!world.read("slurm/plan.sh").contains("--time="), "nothing was measured");
}

#[test]
fn stacks_are_lines_and_later_flags_come_after_the_plans() {
    let world = World::new();
    let flags = ["--methods", "lora", "--seeds", "0,1,2", "--together", "2", "--write-plan", "plan.jsonl"];
    assert!(stdout(&mut world.run(&flags)).contains("2 lines"));
    let line = ["run", "--plan", "plan.jsonl", "--index", "0", "--out", "elsewhere"];
    world.rankbench(&line).assert().success();
    let runs = run_dirs(&world, "elsewhere");
    assert_eq!(runs.len(), 2);
    assert!(std::fs::read_to_string(runs[0].join("manifest.json")).unwrap().contains("\"together\": 2"));
}

#[test]
fn a_line_that_is_not_there_or_fits_other_data_is_refused() {
    let world = World::new();
    stdout(&mut world.run(&PLAN));
    let plan = |extra: &[&str]| world.rankbench(&[&["run", "--plan", "plan.jsonl"], extra].concat());
    let (code, text) = failure(&mut plan(&[]));
    assert!(code == 2 && text.contains("which line of plan.jsonl"), "{text}");
    let (code, text) = failure(&mut plan(&["--index", "4"]));
    assert!(code == 2 && text.contains("expected 0 to 3"), "{text}");
    let (code, text) = failure(plan(&[]).env("HQ_TASK_ID", "first"));
    assert!(code == 2 && text.contains("HQ_TASK_ID is 'first'"), "{text}");
    let (code, text) = failure(&mut plan(&["--index", "0", "--epochs", "7"]));
    assert!(code == 2 && text.contains("is not what its flags give on this machine"), "{text}");
    world.write("glue/SST-2/train.tsv", support::sst2(40));
    let (code, text) = failure(&mut plan(&["--index", "0"]));
    assert!(code == 2 && text.contains("other data files"), "{text}");
}

/// A line is made by one process: what would be left out is refused by its name.
#[test]
fn workers_and_plans_are_refused_together() {
    let world = World::new();
    for (name, value) in [("--jobs", "2"), ("--gpus", "all")] {
        let (code, text) = failure(&mut world.run(&[&PLAN[..], &[name, value]].concat()));
        assert!(code == 2 && text.contains("--write-plan") && text.contains(name), "{text}");
        assert!(!world.path("plan.jsonl").exists());
    }
    stdout(&mut world.run(&PLAN));
    for (name, value) in [("--jobs", "2"), ("--gpus", "0")] {
        let line = ["run", "--plan", "plan.jsonl", "--index", "0", name, value];
        let (code, text) = failure(&mut world.rankbench(&line));
        assert!(code == 2 && text.contains("--plan") && text.contains(name), "{text}");
    }
    // As an older program wrote them.
    let older = world.read("plan.jsonl").replace("\"--methods\"", "\"--jobs\",\"2\",\"--methods\"");
    world.write("plan.jsonl", older);
    let (code, text) = failure(&mut world.rankbench(&["run", "--plan", "plan.jsonl", "--index", "0"]));
    assert!(code == 2 && text.contains("the flags of plan.jsonl, line 1") && text.contains("--jobs"), "{text}");
}

#[test]
fn a_slurm_script_is_written_and_without_slurm_not_submitted() {
    let world = World::new();
    stdout(&mut world.run(&PLAN));
    let submit = ["submit", "slurm", "--plan", "plan.jsonl", "--time", "30", "--sbatch=--gpus=1"];
    let text = stdout(&mut world.rankbench(&[&submit[..], &["--dry-run", "--", "--device", "cpu"]].concat()));
    assert!(text.starts_with("sbatch ") && text.contains("slurm/plan.sh"), "{text}");
    let script = world.read("slurm/plan.sh");
    for part in [
        "--array=0-3",
        "--time=30",
        "--signal=B:USR1@120",
        "--requeue",
        "--gpus=1",
        "--device cpu &",
        "scontrol requeue",
    ] {
        assert!(script.contains(part), "{part}: {script}");
    }
    // The launcher of a wheel or a bundle: the binary alone would not find libtorch.
    stdout(world.rankbench(&[&submit[..], &["--dry-run"]].concat()).env("RANKBENCH_PROGRAM", "/env/bin/rankbench"));
    assert!(
        world.read("slurm/plan.sh").contains("\n/env/bin/rankbench run --plan "),
        "{}",
        world.read("slurm/plan.sh")
    );
    let (code, text) = failure(world.rankbench(&submit).env("PATH", "/nowhere"));
    assert!(code == 7 && text.contains("cannot submit") && text.contains("sbatch"), "{text}");
}

#[test]
fn doctor_checks_a_bundle() {
    let world = World::new();
    let sum = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    world.write("VERSION", "1");
    world.write("SHA256SUMS", format!("{}  VERSION\n", sum("1")));
    assert!(stdout(&mut world.rankbench(&["doctor"])).contains("1 files are as they were made"));
    world.write("VERSION", "2");
    let (code, text) = failure(&mut world.rankbench(&["doctor"]));
    assert!(code == 3 && text.contains("VERSION has another sha256"), "{text}");
}
