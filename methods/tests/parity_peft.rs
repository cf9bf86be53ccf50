//! Adapters that PEFT saved: the same change of every weight and the same logits (cases d2 to d6 and g1 to g5).

mod support;

use std::collections::{BTreeMap, BTreeSet};

use encoders::{Attach, Encoder, Frozen, Pass, TokenBatch};
use methods::registry::read_adapter;
use support::case::{Case, cases, largest_error, write_checkpoint};
use tch::{Device, Kind, Tensor};

/// Largest absolute error in float32.
const TOLERANCE: f64 = 1e-5;

fn follow(case: &Case) {
    let name = case.name();
    let base_class = case.json["base_case"].as_str().unwrap().split('_').next().unwrap().to_string();
    let base = cases(&base_class).into_iter().find(|base| base.name() == case.json["base_case"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&base, dir.path());
    let encoder = encoders::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
    let own = encoder.info().weights.iter().map(|(name, weight)| (name.clone(), weight.copy())).collect();
    let trained = read_adapter(&case.dir, encoder.as_ref()).unwrap();
    let merged = trained.merged(encoder.as_ref()).unwrap();
    for module in &encoder.info().target_modules {
        let recorded = format!("delta.{}", module.path);
        let want = if case.has(&recorded) {
            case.tensor(&recorded)
        } else {
            Tensor::zeros([module.d_out, module.d_in], (Kind::Float, Device::Cpu))
        };
        let got = &merged[&format!("{}.weight", module.path)] - &encoder.info().weights[module.weight].1;
        let error = largest_error(&got, &want);
        assert!(error <= TOLERANCE, "{name} {recorded}: off by {error:e}");
    }
    let ids = base.tensor("input.input_ids");
    let type_ids =
        if base.has("input.token_type_ids") { base.tensor("input.token_type_ids") } else { ids.zeros_like() };
    let inputs = TokenBatch {
        attention_mask: base.tensor("input.attention_mask"),
        token_type_ids: type_ids,
        input_ids: ids,
        token_capacity: None,
    };
    let logits = |attach: &dyn Attach, saved: &BTreeMap<String, Tensor>| {
        let head: Vec<Tensor> = encoder
            .new_head(case.tensor("logits").size()[1], 0)
            .params
            .iter()
            .map(|p| {
                saved.get(&p.name).map_or_else(|| base.tensor(&format!("state.{}", p.name)), Tensor::shallow_clone)
            })
            .collect();
        let pass = Pass { attach, dropout: None };
        encoder.logits(&encoder.last_hidden_state(&inputs, pass), &inputs, &head, pass)
    };
    let error = largest_error(
        &logits(trained.attach(encoder.as_ref()).unwrap().as_ref(), trained.tensors()),
        &case.tensor("logits"),
    );
    assert!(error <= TOLERANCE, "{name} logits: off by {error:e}");
    println!("{name}: logits off by {error:.1e}");
    if case.has("logits_merged") {
        replace_weights(encoder.as_ref(), &merged);
        let error = largest_error(&logits(&Frozen, trained.tensors()), &case.tensor("logits_merged"));
        assert!(error <= TOLERANCE, "{name} merged logits: off by {error:e}");
    }
    replace_weights(encoder.as_ref(), &own);
    let error = largest_error(&logits(&Frozen, &BTreeMap::new()), &case.tensor("logits_base_model"));
    assert!(error <= TOLERANCE, "{name} logits without adapter: off by {error:e}");
}

fn replace_weights(encoder: &dyn Encoder, by: &BTreeMap<String, Tensor>) {
    for (name, weight) in &encoder.info().weights {
        tch::no_grad(|| weight.shallow_clone().copy_(&by[name]));
    }
}

/// Settings that an adapter of PEFT was trained with stand in the file again when it is written, its biases under PEFT's names.
#[test]
fn trained_biases_and_dropout_are_written_as_pefts() {
    for case in cases("g5") {
        let base = cases("a4").into_iter().find(|base| base.name() == case.json["base_case"]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&base, dir.path());
        let encoder = encoders::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
        let files = read_adapter(&case.dir, encoder.as_ref()).unwrap().write("base").unwrap();
        let peft: serde_json::Value =
            serde_json::from_slice(&std::fs::read(case.dir.join("adapter_config.json")).unwrap()).unwrap();
        for key in ["bias", "lora_dropout"] {
            assert_eq!(files.config[key], peft[key], "{}", case.name());
        }
        let own = safetensors::SafeTensors::deserialize(&files.weights).unwrap();
        // PEFT writes the head's biases twice.
        let is_backbone = |name: &&str| name.contains(".encoder.") || name.contains(".embeddings.");
        let names: BTreeSet<&str> = own.names().into_iter().filter(is_backbone).collect();
        let keys = case.json["adapter_keys"].as_object().unwrap().keys();
        let wanted: BTreeSet<&str> = keys.map(String::as_str).filter(is_backbone).collect();
        assert!(wanted.iter().any(|name| name.ends_with("base_layer.bias")));
        assert_eq!(names, wanted, "{}", case.name());
    }
}

#[test]
fn adapters_saved_by_peft_give_the_same_logits() {
    for class in ["d2", "d3", "d4", "d5", "d6", "g1", "g2", "g3", "g4", "g5"] {
        for case in cases(class) {
            follow(&case);
        }
    }
}
