//! Encoders against transformers: hidden states of every layer, logits, losses and gradients, in float32 and float64.

#[path = "../../methods/tests/support/case.rs"]
mod case;

use case::{Case, cases, largest_error, read_tensors, safetensors_bytes, write_checkpoint};
use encoders::{Encoder, Frozen, Pass, TokenBatch};
use tch::{Device, Kind, Reduction, Tensor};

/// Largest absolute error in float32.
const TOLERANCE: f64 = 1e-5;
/// Largest absolute error in float64.
const TOLERANCE_64: f64 = 1e-9;

fn inputs(case: &Case) -> TokenBatch {
    let ids = case.tensor("input.input_ids");
    let or_zero = |name: &str| if case.has(name) { case.tensor(name) } else { ids.zeros_like() };
    TokenBatch {
        attention_mask: case.tensor("input.attention_mask"),
        token_type_ids: or_zero("input.token_type_ids"),
        input_ids: ids,
        token_capacity: None,
    }
}

/// The head's tensors of one of the two models of a case, as leaves.
fn head(case: &Case, encoder: &dyn Encoder, model: &str, kind: Kind) -> Vec<(String, Tensor)> {
    let outputs = case.tensor(&format!("{model}.logits")).size()[1];
    let stored = |name: &str| {
        let names = [format!("state_{model}.{name}"), format!("state.{name}")];
        names.into_iter().find(|name| case.has(name)).unwrap_or_else(|| panic!("no {name}"))
    };
    let leaf = |name: String| {
        let tensor = case.tensor(&stored(&name)).to_kind(kind).copy().set_requires_grad(true);
        (name, tensor)
    };
    encoder.new_head(outputs, 0).params.into_iter().map(|param| leaf(param.name)).collect()
}

fn loss(case: &Case, model: &str, logits: &Tensor) -> Tensor {
    let labels = case.tensor(&format!("input.labels_{model}"));
    match model {
        "regression" => logits.squeeze_dim(-1).mse_loss(&labels.to_kind(logits.kind()), Reduction::Mean),
        _ => logits.cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, 0.0),
    }
}

/// One model of a case in one precision; gives the largest error of (values, values and gradients).
fn follow(case: &Case, encoder: &dyn Encoder, model: &str, kind: Kind) -> (f64, f64) {
    let (suffix, tolerance) = if kind == Kind::Double { ("64", TOLERANCE_64) } else { ("", TOLERANCE) };
    let weights: Vec<(String, Tensor)> =
        encoder.info().weights.iter().map(|(name, t)| (name.clone(), t.set_requires_grad(true))).collect();
    for (_, weight) in &weights {
        weight.shallow_clone().zero_grad();
    }
    let head = head(case, encoder, model, kind);
    let inputs = inputs(case);
    let pass = Pass { attach: &Frozen, dropout: None };
    let embedded = encoder.embed(&inputs, pass);
    // The graph is cut here and joined again below, so that the gradient of the embeddings' output can be read.
    let leaf = embedded.detach().set_requires_grad(true);
    let mut states = Vec::new();
    let last = encoder.encode(&leaf, &inputs, pass, Some(&mut |state| states.push(state.shallow_clone())));
    let tensors: Vec<Tensor> = head.iter().map(|(_, t)| t.shallow_clone()).collect();
    let logits = encoder.logits(&last, &inputs, &tensors, pass);
    let loss = loss(case, model, &logits);
    loss.backward();
    (&embedded * leaf.grad()).sum(None::<Kind>).backward();

    // Values at padding are read by nobody, and DeBERTa's reference attends from there to everything.
    let mask = inputs.attention_mask.unsqueeze(-1).to_kind(kind);
    let mut worst = 0.0f64;
    let mut check = |name: String, got: &Tensor| {
        if case.has(&name) {
            let want = case.tensor(&name);
            let error = match name.contains("hidden_state") {
                true => largest_error(&(got * &mask), &(want * &mask)),
                false => largest_error(got, &want),
            };
            assert!(error <= tolerance, "{} {name}: off by {error:e}", case.name());
            worst = worst.max(error);
        }
        worst
    };
    check(format!("{model}.logits{suffix}"), &logits);
    check(format!("{model}.loss{suffix}"), &loss);
    for (index, state) in std::iter::once(&leaf).chain(&states).enumerate() {
        check(format!("{model}.hidden_states.{index}{suffix}"), state);
    }
    check(format!("{model}.last_hidden_state{suffix}"), &last);
    let values = check(String::new(), &loss);
    if kind == Kind::Float {
        check(format!("{model}.grad.embeddings_output"), &leaf.grad());
        let prefix = format!("{model}.grad.");
        let recorded = case.names().filter(|n| n.starts_with(&prefix) && !n.ends_with("embeddings_output")).count();
        let own: Vec<_> =
            weights.iter().chain(&head).filter(|(name, _)| case.has(&format!("{prefix}{name}"))).collect();
        assert_eq!(own.len(), recorded, "{}: a recorded gradient has no tensor here", case.name());
        for (name, tensor) in own {
            check(format!("{prefix}{name}"), &tensor.grad());
        }
    }
    (values, worst)
}

/// The case, and once more with the configuration as transformers 5 writes it, where that differs.
fn with_every_config(case: Case) -> Vec<Case> {
    let newer = Some(case.json["config_transformers_5"].clone()).filter(|config| config.is_object());
    let newer = newer.map(|config| {
        let mut newer = Case::read(case.dir.clone());
        newer.json["config"] = config;
        newer
    });
    std::iter::once(case).chain(newer).collect()
}

fn parity(class: &str) {
    for case in cases(class).into_iter().flat_map(with_every_config) {
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&case, dir.path());
        for kind in [Kind::Float, Kind::Double] {
            let encoder = encoders::load(dir.path(), Device::Cpu, kind).unwrap();
            for model in ["classification", "regression"] {
                let (values, all) = follow(&case, encoder.as_ref(), model, kind);
                println!("{} {model} {kind:?}: values off by {values:.1e}, with gradients {all:.1e}", case.name());
            }
        }
    }
}

#[test]
fn bert_is_the_reference() {
    parity("a4");
}

#[test]
fn roberta_is_the_reference() {
    parity("a3");
}

#[test]
fn deberta_is_the_reference() {
    parity("a1");
    parity("a2");
}

#[test]
fn electra_is_the_reference() {
    parity("a5");
}

#[test]
fn modernbert_is_the_reference() {
    parity("a6");
}

#[test]
fn modernbert_keeps_the_prediction_head_of_a_masked_language_model() {
    for case in cases("a6") {
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&case, dir.path());
        let path = dir.path().join("model.safetensors");
        let mut tensors = read_tensors(&path);
        tensors.retain(|name, _| !name.starts_with("classifier."));
        tensors.insert("decoder.bias".into(), Tensor::zeros([60], (Kind::Float, Device::Cpu)));
        std::fs::write(&path, safetensors_bytes(&tensors.into_iter().collect::<Vec<_>>())).unwrap();
        let encoder = encoders::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
        for param in encoder.new_head(2, 0).params {
            let is_kept = param.name.starts_with("head.");
            assert_eq!(param.is_pretrained, is_kept, "{}: {}", case.name(), param.name);
            assert!(!is_kept || param.init == case.tensor(&format!("state.{}", param.name)), "{}", param.name);
        }
    }
}
