//! Options of the branches through the binary. `--targets`, `--set` and the recipe name the same runs, and everything that is made
//! of a run follows its linears, its dropout and its biases.

mod support;

use encoders::TensorFile;
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
    let stored: toml::Table = toml::from_str(&world.read(&format!("flag/runs/{}/run.toml", flag[0]))).unwrap();
    assert_eq!(stored["options"]["target_modules"], vec!["query", "value"].into());
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
    assert!(
        code == 2 && said.contains("all-linear") && said.contains("`target_modules` is \"query\""),
        "{code} {said}"
    );
    let (code, said) = failure(&mut world.run(&["--set", "bitfit.target_modules=[query]", "--methods", "bitfit"]));
    assert!(code == 2 && said.contains("`options.target_modules`"), "{code} {said}");
}

/// Values of the only epoch's column.
fn losses(world: &World, out: &str) -> Vec<f64> {
    let of_run = |name: &String| {
        let text = world.read(&format!("{out}/runs/{name}/epochs.csv"));
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
        let at = lines.next().unwrap().iter().position(|name| name == "task_loss").unwrap();
        lines.next().unwrap()[at].parse().unwrap()
    };
    runs(world, out).iter().map(of_run).collect()
}

#[test]
fn dropout_is_trained_with_stored_and_left_out_of_evaluation() {
    let world = World::new();
    world.run(&LORA).assert().success();
    world.run(&[&LORA[..], &["--set", "lora.lora_dropout=0.5", "--out", "dropped"]].concat()).assert().success();
    assert_ne!(losses(&world, "out"), losses(&world, "dropped"));
    let run = &runs(&world, "dropped")[0];
    assert!(world.read(&format!("dropped/runs/{run}/run.toml")).contains("lora_dropout = 0.5"));
    let adapter = format!("dropped/runs/{run}/adapter");
    assert_eq!(json_of(&world, &format!("{adapter}/adapter_config.json"))["lora_dropout"], json!(0.5));
    // The same logits from the file, merged or not: nothing is dropped there.
    let run = format!("dropped/runs/{run}");
    world.rankbench(&["export", "--run", &run, "--out", "exported"]).assert().success();
    assert_eq!(json_of(&world, "exported/adapter_config.json")["lora_dropout"], json!(0.5));
    for rate in ["1", "0.999993"] {
        let dropout = format!("lora.lora_dropout={rate}");
        let (code, said) = failure(&mut world.run(&[&LORA[..], &["--set", &dropout]].concat()));
        let expected = format!("`lora_dropout` is {rate}, expected 0 to 65535/65536");
        assert!(code == 2 && said.contains(&expected), "{code} {said}");
    }
}

#[test]
fn trained_biases_are_counted_and_stored_where_peft_looks_for_them() {
    let world = World::new();
    let biased =
        ["--methods", "lora,sora", "--seeds", "0,1", "--epochs", "1", "--targets", "query,value", "--stack", "2"];
    world.run(&biased).assert().success();
    let file = |run: &str| {
        let file = TensorFile::open(&world.path(&format!("{run}/adapter/adapter_model.safetensors"))).unwrap();
        file.names().map(str::to_string).collect::<Vec<_>>()
    };
    let allocated =
        |run: &str| json_of(&world, &format!("{run}/outcome.json"))["parameters"]["allocated"].as_i64().unwrap();
    let plain = format!("out/runs/{}", runs(&world, "out")[0]);
    assert!(
        plain.contains("-lora-")
            && file(&plain).iter().all(|name| !name.ends_with("layer.0.attention.self.query.bias"))
    );
    // Two layers: each linear 16, the first feed-forward one 24; LayerNorms two a layer and one of the embeddings.
    for (bias, count) in [("lora_only", 4 * 16), ("all", 2 * (5 * 16 + 24) + 5 * 16)] {
        let set = format!("options.bias={bias}");
        world.run(&[&biased[..], &["--set", &set, "--out", bias]].concat()).assert().success();
        for name in runs(&world, bias) {
            let run = format!("{bias}/runs/{name}");
            let manifest = world.read(&format!("{run}/manifest.json"));
            assert!(manifest.contains("\"together\": 1"), "{name}: trained biases are not stacked: {manifest}");
            assert_eq!(json_of(&world, &format!("{run}/adapter/adapter_config.json"))["bias"], bias, "{name}");
            let query = "base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.bias";
            assert!(file(&run).iter().any(|name| name == query), "{name}: {:?}", file(&run));
            let key = "base_model.model.bert.encoder.layer.0.attention.self.key.bias";
            assert_eq!(file(&run).iter().any(|name| name == key), bias == "all", "{name}");
        }
        assert_eq!(allocated(&format!("{bias}/runs/{}", runs(&world, bias)[0])), allocated(&plain) + count, "{bias}");
        let adapter = format!("{bias}/runs/{}/adapter", runs(&world, bias)[0]);
        let merged = format!("merged_{bias}");
        world.rankbench(&["merge", "--backbone", "tiny", "--adapter", &adapter, "--out", &merged]).assert().success();
        let of = |dir: &str| {
            let file = TensorFile::open(&world.path(&format!("{dir}/model.safetensors"))).unwrap();
            file.read("bert.encoder.layer.0.attention.self.query.bias").unwrap()
        };
        assert_ne!(of("tiny"), of(&merged), "{bias}: the merged model has the trained bias");
    }
}
