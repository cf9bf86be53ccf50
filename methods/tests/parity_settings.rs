//! `target_modules`, `lora_dropout` and `bias` against huggingface/peft: training step by step (cases f7 to f9), and the logits of
//! encoders in train mode (cases g6).

mod support;

use encoders::nn::head::HeadParam;
use encoders::{Attach, Encoder, LowRank, Pass, TargetModule, TokenBatch};
use methods::optim::config::DecayOrder;
use methods::registry::{find, read_adapter};
use methods::{Context, TrainState};
use support::case::{largest_error, write_checkpoint};
use support::training::{KINDS, ends, train};
use support::{Case, Net, TOLERANCE, assert_adapters, assert_close, cases};
use tch::{Device, Kind, Tensor};
use torch_ext::ops::dropout::DropoutRng;

/// The case's options as a recipe writes them.
fn options(case: &Case) -> toml::Table {
    let of = |key: &str| {
        let value = case.config(key);
        (!value.is_null()).then(|| (key.to_string(), toml::Value::try_from(value).unwrap()))
    };
    ["r", "alpha", "target_modules", "lora_dropout", "bias"].into_iter().filter_map(of).collect()
}

/// Trained biases that the case has under a prefix.
fn assert_biases(case: &Case, prefix: &str, step: &TrainState, tolerance: f64) {
    let adapters = support::adapters(step);
    let recorded = case.names().filter(|name| name.starts_with(&format!("{prefix}.")) && name.ends_with("bias"));
    assert_eq!(adapters.weights.len(), recorded.count(), "{} {prefix}", case.name());
    for (name, bias) in adapters.weights.values() {
        let module = name.strip_suffix(".bias").unwrap();
        let known = [format!("{prefix}.{module}.base_layer.bias"), format!("{prefix}.{name}")];
        let name = known.iter().find(|name| case.has(name)).unwrap();
        assert_close(&format!("{} {name}", case.name()), bias, &case.tensor(name), tolerance);
    }
}

fn follow(case: &Case, method: &str) {
    let entry = find(method).unwrap();
    let options = entry.options(&options(case)).unwrap();
    for (kind, tolerance) in KINDS {
        let net = Net::new(case, kind);
        let protocol = support::protocol(case, DecayOrder::Before);
        let build = |context: &Context, params: &mut _| entry.build(&options, context, params);
        let mut step = support::boxed_step_at(case, &protocol, kind, (&net.modules, 0), build);
        support::write(case, "init", &support::adapters(&step));
        let check = |prefix: &str, step: &TrainState| {
            assert_adapters(case, prefix, &support::adapters(step), tolerance);
            assert_biases(case, prefix, step, tolerance);
        };
        train(case, &net, &mut step, (kind, tolerance), |t, step| check(&format!("snapshot.{t}"), step));
        check(ends(kind).0, &step);
        let adapters = support::adapters(&step);
        let probe = net.forward(&case.tensor("data.probe").to_kind(kind), &adapters);
        let want = case.tensor(&format!("probe.output_unmerged{}", ends(kind).1));
        assert_close(&format!("{} probe", case.name()), &probe, &want, tolerance);
        for (i, adapter) in support::attached(&adapters).filter(|_| kind == Kind::Float) {
            let merged = adapter.to_lora().merged(net.weight(i));
            assert_close(&format!("merged l{i}"), &merged, &case.tensor(&format!("merged.l{i}.weight")), tolerance);
        }
    }
}

#[test]
fn lora_at_some_modules_follows_peft() {
    for case in cases("f7") {
        follow(&case, "lora");
        let net = Net::new(&case, Kind::Float);
        let protocol = support::protocol(&case, DecayOrder::Before);
        let lora = find("lora").unwrap();
        let options = lora.options(&options(&case)).unwrap();
        let build = |context: &Context, params: &mut _| lora.build(&options, context, params);
        let step = support::boxed_step_at(&case, &protocol, Kind::Float, (&net.modules, 0), build);
        let at: Vec<usize> = support::attached(&support::adapters(&step)).map(|(i, _)| i).collect();
        assert_eq!(at, [0, 2]);
    }
}

#[test]
fn dropout_of_a_branchs_input_follows_peft() {
    for case in cases("f8") {
        follow(&case, if case.name().contains("dora") { "dora" } else { "lora" });
    }
}

/// Without decay, as the trainers of transformers treat biases.
#[test]
fn biases_beside_the_branches_follow_peft() {
    for case in cases("f9") {
        follow(&case, "lora");
    }
}

/// PiSSA's branch holds what was taken off the weight, of which PEFT drops nothing.
#[test]
fn dropout_with_pissa_is_refused() {
    let options = "init_lora_weights = 'pissa'\nlora_dropout = 0.1".parse().unwrap();
    let said = find("lora").unwrap().options(&options).unwrap_err().to_string();
    assert!(said.contains("`lora_dropout`") && said.contains("kaiming"), "{said}");
}

/// A saved adapter in training: with dropout of its branches' inputs.
struct Training(Box<dyn Attach>, f64);

impl Attach for Training {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        Some(LowRank { dropout: self.1, ..self.0.low_rank(module)? })
    }
}

fn inputs(base: &Case) -> TokenBatch {
    let ids = base.tensor("input.input_ids");
    let types = if base.has("input.token_type_ids") { base.tensor("input.token_type_ids") } else { ids.zeros_like() };
    let attention_mask = base.tensor("input.attention_mask");
    TokenBatch { attention_mask, token_type_ids: types, input_ids: ids, token_capacity: None }
}

fn logits(encoder: &dyn Encoder, batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
    encoder.logits(&encoder.last_hidden_state(batch, pass), batch, head, pass)
}

/// In train mode every branch of an encoder drops its own input; DeBERTa's projections of distances drop theirs by row.
#[test]
fn encoders_drop_what_peft_drops() {
    for case in cases("g6") {
        let base = case.json["base_case"].as_str().unwrap();
        let base = cases(&base[..2]).into_iter().find(|case| case.name() == base).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&base, dir.path());
        let encoder = encoders::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
        let trained = read_adapter(&case.dir, encoder.as_ref()).unwrap();
        assert_eq!(trained.write("base").unwrap().config["lora_dropout"], case.number("lora_dropout"));
        let value = |param: HeadParam| {
            let saved = trained.tensors().get(&param.name).map(Tensor::shallow_clone);
            saved.unwrap_or_else(|| base.tensor(&format!("state.{}", param.name)))
        };
        let outputs = case.tensor("logits").size()[1];
        let head: Vec<Tensor> = encoder.new_head(outputs, 0).params.into_iter().map(value).collect();
        let (batch, rng) = (inputs(&base), DropoutRng::new(&[case.count("dropout_seed") as i64], Device::Cpu));
        let training = Training(trained.attach(encoder.as_ref()).unwrap(), case.number("lora_dropout"));
        let evaluated = logits(encoder.as_ref(), &batch, &head, Pass { attach: &training, dropout: None });
        assert!(largest_error(&evaluated, &case.tensor("logits")) <= TOLERANCE, "{}", case.name());
        for step in 0..2 {
            let got = logits(encoder.as_ref(), &batch, &head, Pass { attach: &training, dropout: Some(&rng) });
            let want = case.tensor(&format!("logits_dropped.{step}"));
            let error = largest_error(&got, &want);
            assert!(error <= TOLERANCE, "{} step {step}: off by {error:e}", case.name());
            assert!(largest_error(&got, &evaluated) > 100.0 * TOLERANCE, "{}: nothing was dropped", case.name());
            rng.advance();
        }
    }
}
