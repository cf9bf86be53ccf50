//! The baseline check passes for the same code and fails when a method is broken on purpose.

mod support;

use support::{World, failure};

const TIMING: &str = "[timing]\nrounds = 2\nsteps = 1\n";

fn regression(world: &World, extra: &[&str]) -> assert_cmd::Command {
    let mut command = world.rankbench(&[
        "regression",
        "--recipe",
        "tiny.toml",
        "--glue",
        "glue",
        "--allow-unlocked",
        "--device",
        "cpu",
        "--baseline",
        "baseline.csv",
        "--epochs",
        "6",
    ]);
    command.args(extra);
    command
}

/// Time ratios of runs of a few milliseconds say nothing: their tolerance is opened by hand, which blessing keeps.
fn open_the_time_rows(world: &World) {
    let text = world.read("baseline.csv");
    let opened = text.lines().map(|line| match line.contains("epoch_time_") {
        true => format!("{},1000.0\n", line.rsplit_once(',').unwrap().0),
        false => format!("{line}\n"),
    });
    world.write("baseline.csv", opened.collect::<String>());
}

#[test]
fn the_check_passes_for_the_same_code() {
    let world = World::new();
    world.recipe(TIMING);
    let (code, text) = failure(&mut regression(&world, &[]));
    assert!(code == 3 && text.contains("--bless"), "{text}");
    regression(&world, &["--bless"]).assert().success();
    open_the_time_rows(&world);
    let output = regression(&world, &[]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the baseline check passed"));
}

/// A broken adapter (its branch is scaled by 0), a broken threshold, a broken budget: each must fail the check.
#[test]
fn the_check_fails_when_a_method_is_broken() {
    let world = World::new();
    world.recipe(TIMING);
    regression(&world, &["--bless"]).assert().success();
    assert!(world.read("baseline.csv").contains("all,sora,,epoch_time_ratio"));
    open_the_time_rows(&world);
    let broken = [
        ("lora", "alpha = 1e-9", "sst2 lora seed 0 "),
        ("sora", "xi = 0.2", "sst2 sora seed 0 parameters/effective"),
        ("adalora", "target_r = 3", "sst2 adalora seed 0 parameters/effective"),
    ];
    for (method, option, moved) in broken {
        let extra = format!("[[override]]\nmethods = [\"{method}\"]\noptions = {{ {option} }}\n{TIMING}");
        world.recipe(&extra);
        let (code, text) = failure(&mut regression(&world, &[]));
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("the baseline check failed") && text.contains(moved), "{method}: {text}");
        assert!(text.contains("just regression --bless"), "{text}");
    }
}

#[test]
fn nothing_is_blessed_after_a_failed_run() {
    let world = World::new();
    world.recipe(&format!("[[override]]\nmethods = [\"sora\"]\ntrain = {{ lr = 1e30 }}\n{TIMING}"));
    let (code, text) = failure(&mut regression(&world, &["--bless"]));
    assert!(code == 5 && text.contains("1 of 3 runs failed"), "{text}");
    assert!(!world.path("baseline.csv").exists());
}
