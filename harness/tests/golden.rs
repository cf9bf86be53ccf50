//! Names that stored results depend on: ids of runs, headers of CSV files. They change with `NUMERICS` or a format's version, and
//! never by a renaming.

mod support;

use std::rc::Rc;

use datasets::micro;
use datasets::tokenizer::Behaviour;
use harness::plan::recipe::{EMBEDDED, Recipe};
use harness::plan::resolve::{self, PlanContext};
use harness::plan::spec::BackboneSpec;
use sha2::{Digest, Sha256};
use support::World;

/// The first id of every embedded recipe, and the sha256 of all of its ids, for a made-up backbone and synthetic rows.
#[test]
fn ids_of_the_embedded_recipes() {
    let context = PlanContext {
        backbone: BackboneSpec {
            name: "made-up".into(),
            weights_sha256: "ab".into(),
            sha256: "cd".into(),
            tokenizer: Behaviour::Fast,
        },
        max_positions: 512,
        device: "cpu".into(),
        dataset: &|task| Ok(Rc::new(micro::dataset(task)?)),
    };
    let of = |(name, text): &(&str, &str)| {
        let recipe = Recipe::parse(text, name).unwrap();
        let plan = resolve::plan(&recipe, &context).unwrap();
        let ids: Vec<String> = plan.iter().map(|run| run.id()).collect();
        let sum = hex::encode(Sha256::digest(ids.join("\n")));
        format!("{name}: {} runs, {} … {}", ids.len(), ids[0], &sum[..16])
    };
    insta::assert_snapshot!("ids", EMBEDDED.iter().map(of).collect::<Vec<_>>().join("\n"));
}

/// Names in files and titles in tables, of every method and task.
#[test]
fn titles_of_methods_and_tasks() {
    let methods = methods::registry::METHODS.iter().map(|method| format!("{}: {}", method.name, method.title));
    let tasks = datasets::tasks::TASKS.iter().map(|task| format!("{}: {}", task.name, task.title));
    insta::assert_snapshot!("titles", methods.chain(tasks).collect::<Vec<_>>().join("\n"));
}

/// The first line of every CSV file that a sweep, a measurement and their report write.
#[test]
fn headers_of_csv_files() {
    let world = World::new();
    let methods = ["--methods", "lora,sora", "--epochs", "1"];
    world.run(&methods).assert().success();
    let recipe = world.recipe("[timing]\nrounds = 2\nsteps = 2\n");
    let recipe = recipe.to_str().unwrap();
    let efficiency =
        ["efficiency", "--recipe", recipe, "--device", "cpu", "--glue", "glue", "--allow-unlocked", "--out", "out"];
    world.rankbench(&[&efficiency[..], &methods].concat()).assert().success();
    let mut headers: Vec<String> = Vec::new();
    let mut open = vec![world.path("out")];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "csv") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                headers.push(format!("{name}: {}", text.lines().next().unwrap_or_default()));
            }
        }
    }
    headers.sort();
    headers.dedup();
    insta::assert_snapshot!("headers", headers.join("\n"));
}
