//! Chosen linears through the binary: `--targets`, `--set` and the recipe name the same runs, and everything that is made of a run
//! follows the choice.

mod support;

use methods::registry::read_adapter;
use serde_json::{Value, json};
use support::{World, failure};
use tch::{Device, Kind};

const LORA: [&str; 6] = ["--methods", "lora", "--seeds", "0", "--epochs", "1"];

fn runs(world: &World, out: &str) -> Vec<String> {
    let runs = std::fs::read_dir(world.path(out).join("runs")).unwrap();
    let mut names: Vec<String> = runs.map(|run| run.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn json_of(world: &World, file: &str) -> Value {
    serde_json::from_str(&world.read(file)).unwrap()
}

#[test]
fn flag_assignment_and_recipe_make_the_same_run() {
    let world = World::new();
    let ids = |out: &str, extra: &[&str]| {
        world.run(&[&LORA[..], &["--out", out], extra].concat()).assert().success();
        runs(&world, out)
    };
    let flag = ids("flag", &["--targets", "query,value"]);
    assert_eq!(ids("set", &["--set", "lora.target_modules=[value,query]"]), flag);
    assert_eq!(ids("set2", &["--set", r#"lora.options.target_modules=["query","value"]"#]), flag);
    let every = ids("every", &[]);
    assert_eq!(ids("linear", &["--targets", "all-linear"]), every);
    assert_ne!(every, flag);
    assert!(!world.read(&format!("every/runs/{}/run.toml", every[0])).contains("target_modules"));
    let stored = world.read(&format!("flag/runs/{}/run.toml", flag[0]));
    assert!(stored.contains("target_modules = [\n    \"query\",\n    \"value\",\n]"), "{stored}");
    world.recipe("[[override]]\nmethods = ['lora']\noptions = { target_modules = ['query', 'value'] }\n");
    assert_eq!(ids("recipe", &[]), flag);
}

#[test]
fn a_run_at_chosen_linears_is_counted_stored_stacked_and_merged_as_such() {
    let world = World::new();
    let methods = ["--methods", "lora,dora,dylora,adalora,sora", "--seeds", "0,1", "--epochs", "1"];
    let chosen = [&methods[..], &["--targets", "query,value"]].concat();
    world.run(&chosen).assert().success();
    world.run(&[&chosen[..], &["--stack", "2", "--out", "both"]].concat()).assert().success();
    let encoder = encoders::load(&world.path("tiny"), Device::Cpu, Kind::Float).unwrap();
    for name in runs(&world, "out") {
        let ranks = world.read(&format!("out/runs/{name}/ranks.csv"));
        let mut lines = ranks.lines();
        let at = lines.next().unwrap().split(',').position(|column| column == "kind").unwrap();
        assert!(lines.all(|line| ["query", "value"].contains(&line.split(',').nth(at).unwrap())), "{name}: {ranks}");
        let config = json_of(&world, &format!("out/runs/{name}/adapter/adapter_config.json"));
        for target in config["target_modules"].as_array().unwrap() {
            let path = target.as_str().unwrap();
            assert!(path.starts_with("bert.encoder.layer.") && !path.ends_with("key"), "{name}: {path}");
        }
        read_adapter(&world.path(&format!("out/runs/{name}/adapter")), encoder.as_ref()).unwrap();
        let [alone, stacked] = ["out", "both"].map(|out| json_of(&world, &format!("{out}/runs/{name}/outcome.json")));
        assert_eq!(alone["parameters"], stacked["parameters"], "{name}");
    }
    let lora = runs(&world, "out").into_iter().find(|name| name.contains("-lora-")).unwrap();
    let outcome = json_of(&world, &format!("out/runs/{lora}/outcome.json"));
    // Four linears of 16 to 16 values, r = 8.
    assert_eq!(outcome["parameters"]["allocated"], json!(4 * 8 * 32), "{outcome}");
    let config = json_of(&world, &format!("out/runs/{lora}/adapter/adapter_config.json"));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 4);
    let adapter = format!("out/runs/{lora}/adapter");
    world.rankbench(&["merge", "--backbone", "tiny", "--adapter", &adapter, "--out", "merged"]).assert().success();
}

#[test]
fn a_name_that_matches_nothing_is_refused_before_a_run_begins() {
    let world = World::new();
    let (code, said) = failure(&mut world.run(&[&LORA[..], &["--targets", "query,vlaue"]].concat()));
    assert_eq!(code, 2, "{said}");
    for part in ["target_modules", "'vlaue'", "did you mean 'value'?", "query, key, value, dense"] {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
    assert!(!world.path("out/runs").exists());
    let (code, said) = failure(&mut world.run(&["--set", "lora.target_modules=query"]));
    assert!(code == 2 && said.contains("all-linear") && said.contains("`target_modules` is \"query\""), "{code} {said}");
    let (code, said) = failure(&mut world.run(&["--set", "bitfit.target_modules=[query]", "--methods", "bitfit"]));
    assert!(code == 2 && said.contains("`options.target_modules`"), "{code} {said}");
}
