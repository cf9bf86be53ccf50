//! `--json`: every command that prints a table or a list has it, and prints one JSON value on standard output and nothing else.

mod support;

use serde_json::Value;
use support::World;

/// Commands that print a line at most, or text of another format.
const WITHOUT: [&str; 7] = ["tensorboard", "submit", "export", "merge", "tokenize", "completions", "man"];

/// Standard output of a command that ends with `code`, which must be JSON.
fn json(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = world.rankbench(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e} in\n{out}"))
}

/// Rows of the tables called `name`.
fn rows(report: &Value, name: &str) -> usize {
    let tables = report["tables"].as_array().unwrap();
    let of_name = tables.iter().filter(|table| table["name"] == name);
    of_name.map(|table| table["rows"].as_array().unwrap().len()).sum()
}

#[test]
fn every_command_that_prints_a_table_or_a_list_has_json() {
    let world = World::new();
    let help = |arguments: &[&str]| String::from_utf8(world.rankbench(arguments).output().unwrap().stdout).unwrap();
    let list = help(&["--help"]);
    let list = list.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let mut seen = 0;
    for name in names.filter(|name| *name != "help") {
        let has = help(&[name, "--help"]).contains("--json");
        assert_eq!(has, !WITHOUT.contains(&name), "{name}");
        seen += 1;
    }
    assert!(seen > WITHOUT.len() + 20, "{seen}");
}

#[test]
fn what_there_is_as_json() {
    let world = World::new();
    assert!(json(&world, &["list", "--json"], 0).as_array().unwrap().len() > 10);
    assert!(json(&world, &["recipe", "--json"], 0)[0]["rows"].as_array().unwrap().len() > 5);
    assert_eq!(json(&world, &["recipe", "table1", "--json"], 0)["name"], "table1");
    assert!(json(&world, &["doctor", "--json"], 0)["libtorch"].is_string());
    let rows = json(&world, &["split", "--task", "rte", "--micro", "--text", "--json"], 0);
    assert!(rows.as_array().unwrap().iter().all(|row| row["row"].is_u64() && row["first"].is_string()), "{rows}");
    let to_file = ["split", "--task", "rte", "--micro", "--json", "--out", "split.json"];
    assert!(world.rankbench(&to_file).output().unwrap().stdout.is_empty(), "the rows are in the file");
    assert_eq!(serde_json::from_str::<Value>(&world.read("split.json")).unwrap()[0]["split"], "train");
    world.write("table.csv", "method,rte\nlora,87.36\n");
    assert!(json(&world, &["audit", "table.csv", "--json"], 0).is_object());
    world.recipe("");
    let fetched = json(&world, &["fetch", "quick", "--backbone", "tiny", "--json"], 0);
    assert!(fetched["backbone"]["dir"].as_str().unwrap().ends_with("tiny") && fetched["data"].is_array(), "{fetched}");
    let carried = json(&world, &["fetch", "quick", "--backbone", "tiny", "--to", "carried", "--json"], 0);
    assert_eq!(carried["flags"][0], "--backbone");
}

/// Flags of this world's recipe and data.
const HERE: [&str; 6] = ["--glue", "glue", "--allow-unlocked", "--device", "cpu", "--json"];

fn here<'a>(command: &[&'a str]) -> Vec<&'a str> {
    command.iter().copied().chain(HERE).collect()
}

#[test]
fn runs_and_stores_as_json() {
    let world = World::new();
    world.recipe("");
    let run = here(&["run", "tiny.toml", "--methods", "lora,sora", "--out", "out"]);
    let dry = json(&world, &[&run[..], &["--dry-run"]].concat(), 0);
    assert_eq!((dry["total"]["runs"].as_u64(), dry["runs"][1]["state"].as_str()), (Some(2), Some("left")));
    let refused = world.rankbench(&[&run[..], &["--dry-run=toml"]].concat()).output().unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
    let made = json(&world, &run, 0);
    assert!(rows(&made, "one_task") + rows(&made, "table1") > 1, "{made}");
    let by_workers = json(&world, &[&run[..], &["--jobs", "2", "--seeds", "1"]].concat(), 0);
    assert!(rows(&by_workers, "table1") > 1, "{by_workers}");
    assert_eq!(json(&world, &here(&["plan", "--recipe", "tiny.toml", "--no-measure"]), 0)["total"]["runs"], 3);

    let report = json(&world, &["report", "out", "--json"], 0);
    assert!(rows(&report, "paired") > 0 && rows(&report, "table1") > 1, "{report}");
    let status = json(&world, &["status", "--out", "out", "--json"], 0);
    assert!(status["runs"].as_array().unwrap().iter().all(|run| run["state"] == "done"), "{status}");
    let watched = json(&world, &["watch", "out", "--once", "--json"], 0);
    assert_eq!(watched["runs"][0]["task_losses"].as_array().unwrap().len(), 2, "{watched}");
    assert_eq!(watched["runs"][0]["validation_metric"], "accuracy");
    let id = status["runs"][0]["run"].as_str().unwrap();
    assert_eq!(json(&world, &["show", id, "--out", "out", "--json"], 0)["state"], "done");
    let verified = json(&world, &["verify", id, "--out", "out", "--glue", "glue", "--backbone", "tiny", "--json"], 0);
    assert_eq!((&verified["repeats"], &verified["epochs"][0]["first_step"]), (&true.into(), &1.into()));
    json(&world, &["compare", "out", "out", "--json"], 0);
    json(&world, &["power", "out", "--json"], 0);
    let adapter = format!("out/runs/{id}/adapter");
    let own = ["--backbone", "tiny", "--task", "sst2", "--glue", "glue", "--allow-unlocked", "--json"];
    let scores = json(&world, &[&["import", "--adapter", &adapter][..], &own].concat(), 0);
    assert_eq!((&scores[0]["metric"], &scores[0]["rows"]), (&"accuracy".into(), &16.into()));
    let add = ["add", "--method", "mine", "--seed", "0", "--adapter", &adapter, "--policy", "official", "--out", "out"];
    let added = json(&world, &[&add[..], &own].concat(), 0);
    assert_eq!((&added["state"], &added["results"][0]["test_examples"]), (&"added".into(), &16.into()));

    assert_eq!(json(&world, &["fsck", "--out", "out", "--json"], 0)["whole"], 5);
    world.write(&format!("out/runs/{id}/outcome.json"), "{}");
    let damaged = json(&world, &["fsck", "--out", "out", "--json"], 3);
    assert_eq!((&damaged["do_not_agree"], &damaged["findings"][0]["is_mended"]), (&1.into(), &false.into()));
}

#[test]
fn searches_and_timings_as_json() {
    let world = World::new();
    world.recipe("[timing]\nrounds = 1\nsteps = 2\n");
    let tuned =
        here(&["tune", "--recipe", "tiny.toml", "--methods", "lora", "--set", "train.lr=1e-3,1e-2", "--out", "tune"]);
    assert!(rows(&json(&world, &tuned, 0), "tuning") > 0);
    let ablated =
        here(&["ablate", "--base", "tiny.toml", "--methods", "sora", "--flip", "variant", "--out", "ablation"]);
    assert!(rows(&json(&world, &ablated, 0), "ablation") > 0);
    let timed = here(&["efficiency", "--recipe", "tiny.toml", "--methods", "lora,sora", "--out", "efficiency"]);
    assert!(rows(&json(&world, &timed, 0), "efficiency") > 0);
    let first = ["quickstart", "--tasks", "rte", "--methods", "lora", "--epochs", "1", "--backbone", "tiny"];
    let first = json(&world, &[&first[..], &["--device", "cpu", "--out", "first", "--json"]].concat(), 0);
    assert!(rows(&first, "table1") > 0 && rows(&first, "efficiency") > 0, "{first}");
    let check = ["regression", "--recipe", "tiny.toml", "--methods", "lora", "--baseline", "baseline.csv"];
    let flags = &HERE[..HERE.len() - 1];
    assert!(world.rankbench(&[&check[..], flags, &["--bless"]].concat()).output().unwrap().status.success());
    let same = json(&world, &here(&check), 0);
    assert!(same["passed"] == true && same["compared"].as_u64().unwrap() > 0, "{same}");
    let other = json(&world, &[&here(&check)[..], &["--lr", "0.5"]].concat(), 4);
    assert!(other["passed"] == false && !other["deviations"].as_array().unwrap().is_empty(), "{other}");
}
