//! Inputs of the fuzz target of recipes (`fuzz/`): a plan or an error.

use std::path::Path;
use std::rc::Rc;

use datasets::Task;
use datasets::dataset::Dataset;
use datasets::tokenizer::Behaviour;
use harness::error::Result;
use harness::plan::recipe::Recipe;
use harness::plan::resolve::{PlanContext, plan};
use harness::plan::spec::BackboneSpec;

fn dataset(task: &'static Task) -> Result<Rc<Dataset>> {
    let (train, dev, files) = Default::default();
    Ok(Rc::new(Dataset { task, train, dev, files, sha256: "00".into(), source: "micro" }))
}

/// Runs of a recipe.
fn runs(text: &str) -> Result<usize> {
    let (name, weights_sha256, sha256) = Default::default();
    let backbone = BackboneSpec { name, weights_sha256, sha256, tokenizer: Behaviour::Fast };
    let context = PlanContext { backbone, max_positions: 512, device: "cpu".into(), dataset: &dataset };
    Ok(plan(&Recipe::parse(text, "recipe.toml")?, &context)?.len())
}

#[test]
fn inputs_of_the_fuzz_target_do_no_harm() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz/recipe");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let found = runs(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        if path.ends_with("every-key.toml") {
            assert_eq!(found.unwrap(), 24);
        }
    }
}
