//! A recipe, and the plan of its runs on the embedded data.
#![no_main]

use std::rc::Rc;

use datasets::Task;
use datasets::dataset::Dataset;
use datasets::tokenizer::Behaviour;
use harness::plan::resolve::{PlanContext, plan};
use harness::plan::recipe::Recipe;
use harness::plan::spec::BackboneSpec;
use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, start};

fn dataset(task: &'static Task) -> harness::error::Result<Rc<Dataset>> {
    let (train, dev, files) = Default::default();
    Ok(Rc::new(Dataset { task, train, dev, files, sha256: "00".into(), source: "micro" }))
}

fuzz_target!(init: start(), |input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check(input.len(), || {
        let Ok(recipe) = Recipe::parse(text, "recipe.toml") else { return };
        let (name, weights_sha256, sha256) = Default::default();
        let backbone = BackboneSpec { name, weights_sha256, sha256, tokenizer: Behaviour::Fast };
        let context = PlanContext { backbone, max_positions: 512, device: "cpu".into(), dataset: &dataset };
        drop(plan(&recipe, &context));
    });
});
