//! DoRA, rsLoRA, PiSSA and LoRA+ against huggingface/peft, step by step: cases f1 to f4 and f6 in float32 and float64.

mod support;

use methods::optim::config::DecayOrder;
use methods::optim::params::ParamGroup;
use methods::optim::params::ParamsBuilder;
use methods::tuners::dora::{Dora, DoraOptions};
use methods::tuners::lora::{InitLoraWeights, Lora, LoraOptions};
use methods::{Context, Method, Result, TrainState};
use support::training::{KINDS, ends, train};
use support::{Case, Net, TOLERANCE, assert_adapters, assert_close, assert_scalar, cases, floats};
use tch::Kind;

fn rank(case: &Case) -> i64 {
    case.count("r") as i64
}

fn lora(case: &Case) -> LoraOptions {
    LoraOptions { r: rank(case), alpha: case.number("alpha"), ..LoraOptions::default() }
}

/// Logits on the probe, and merged weights.
fn check_end(case: &Case, net: &Net, step: &TrainState, (kind, tolerance): (Kind, f64)) {
    let (name, suffix) = (case.name(), ends(kind).1);
    let adapters = support::adapters(step);
    let probe = net.forward(&case.tensor("data.probe").to_kind(kind), &adapters);
    assert_close(&format!("{name} probe"), &probe, &case.tensor(&format!("probe.output_unmerged{suffix}")), tolerance);
    if kind != Kind::Float {
        return;
    }
    assert_close(&format!("{name} merged probe"), &probe, &case.tensor("probe.output_merged"), tolerance);
    for (i, adapter) in adapters.modules.iter().flatten().enumerate() {
        let merged = adapter.to_lora().merged(net.weight(i));
        assert_close(&format!("{name} merged l{i}"), &merged, &case.tensor(&format!("merged.l{i}.weight")), tolerance);
        assert_scalar("scale", adapter.scale, case.json["scale"].as_f64().unwrap(), 1e-12);
    }
}

/// A whole case whose adapters start at its `init.*`.
fn follow<M: Method + 'static>(case: &Case, new: impl Fn(&Context, &mut ParamsBuilder) -> Result<M>) {
    for (kind, tolerance) in KINDS {
        let net = Net::new(case, kind);
        let protocol = support::protocol(case, DecayOrder::Before);
        let mut step = support::step(case, &protocol, kind, 0, &new);
        train(case, &net, &mut step, (kind, tolerance), |t, step| {
            assert_adapters(case, &format!("snapshot.{t}"), &support::adapters(step), tolerance);
        });
        assert_adapters(case, ends(kind).0, &support::adapters(&step), tolerance);
        check_end(case, &net, &step, (kind, tolerance));
    }
}

#[test]
fn dora_follows_peft() {
    for case in cases("f1") {
        let options = DoraOptions { r: rank(&case), alpha: case.number("alpha"), ..DoraOptions::default() };
        follow(&case, |context, params| Dora::new(options.clone(), context, params));
    }
}

/// The magnitude starts as the norms of the frozen weight's rows.
#[test]
fn doras_magnitudes_start_as_pefts() {
    for case in cases("f1") {
        let protocol = support::protocol(&case, DecayOrder::Before);
        let new = |c: &Context, p: &mut _| Dora::new(DoraOptions::default(), c, p);
        let step = support::untouched_step(&case, &protocol, Kind::Float, 0, new);
        for (i, adapter) in support::adapters(&step).modules.iter().flatten().enumerate() {
            let want = case.tensor(&format!("init.l{i}.lora_magnitude_vector"));
            assert_close("magnitude", adapter.magnitude.as_ref().unwrap(), &want, TOLERANCE);
        }
    }
}

#[test]
fn rslora_follows_peft() {
    for case in cases("f2") {
        let options = LoraOptions { use_rslora: true, ..lora(&case) };
        follow(&case, |context, params| Lora::new(options.clone(), context, params));
    }
}

/// PiSSA keeps W and subtracts `s B0 A0` instead of training beside the residual weight. The sign of a component is not
/// determined, so products are compared, and A and B by their magnitude.
#[test]
fn pissa_follows_peft() {
    for case in cases("f3") {
        let options = LoraOptions { init_lora_weights: InitLoraWeights::Pissa, ..lora(&case) };
        // PEFT's float64 run starts from components that were decomposed in float32, and so does ours.
        for (kind, tolerance) in [(Kind::Float, TOLERANCE), (Kind::Double, TOLERANCE)] {
            let net = Net::new(&case, kind);
            let protocol = support::protocol(&case, DecayOrder::Before);
            let new = |c: &Context, p: &mut _| Lora::new(options.clone(), c, p);
            let mut step = support::untouched_step(&case, &protocol, kind, 0, new);
            let check = |prefix: &str, step: &TrainState| assert_components(&case, prefix, step, tolerance);
            check("init", &step);
            train(&case, &net, &mut step, (kind, tolerance), |t, step| check(&format!("snapshot.{t}"), step));
            check(ends(kind).0, &step);
            check_end(&case, &net, &step, (kind, tolerance));
            if kind == Kind::Float {
                check_converted(&case, &net, &step);
            }
        }
    }
}

fn assert_components(case: &Case, prefix: &str, step: &TrainState, tolerance: f64) {
    for (i, adapter) in support::adapters(step).modules.iter().flatten().enumerate() {
        let r = adapter.max_rank();
        let (a, b) = (adapter.a.narrow(0, 0, r), adapter.b.narrow(1, 0, r));
        let [want_a, want_b] = ["lora_A", "lora_B"].map(|part| case.tensor(&format!("{prefix}.l{i}.{part}")));
        let name = format!("{} {prefix}.l{i}", case.name());
        assert_close(&name, &b.matmul(&a), &want_b.matmul(&want_a), tolerance);
        assert_close(&name, &a.abs(), &want_a.abs(), tolerance);
        assert_close(&name, &b.abs(), &want_b.abs(), tolerance);
    }
}

/// The export is PEFT's conversion to plain LoRA on the original weight: rank 2r, `[A; A0]` and `[B, -B0]`.
fn check_converted(case: &Case, net: &Net, step: &TrainState) {
    for (i, adapter) in support::adapters(step).modules.iter().flatten().enumerate() {
        let converted = adapter.to_lora();
        assert_eq!(converted.rank(), case.json["converted"]["r"].as_i64().unwrap());
        let [a, b] = ["lora_A", "lora_B"].map(|part| case.tensor(&format!("converted.l{i}.{part}")));
        assert_close("converted A", &converted.a.abs(), &a.abs(), TOLERANCE);
        assert_close("converted B", &converted.b.abs(), &b.abs(), TOLERANCE);
        // A small difference of two products, whose rounding counts.
        assert_close("converted product", &converted.b.matmul(&converted.a), &b.matmul(&a), 10.0 * TOLERANCE);
    }
    let probe = net.forward(&case.tensor("data.probe"), &support::adapters(step));
    assert_close("converted probe", &probe, &case.tensor("probe.output_converted"), TOLERANCE);
}

fn lora_plus(case: &Case) -> LoraOptions {
    LoraOptions { loraplus_lr_ratio: Some(case.number("lora_plus_ratio")), ..lora(case) }
}

#[test]
fn lora_plus_follows_peft() {
    for case in cases("f4") {
        let options = lora_plus(&case);
        follow(&case, |context, params| Lora::new(options.clone(), context, params));
    }
}

/// The head is trained beside the adapters: its matrix goes with A, its bias with B and without decay.
#[test]
fn lora_plus_takes_a_heads_bias_with_b() {
    for case in cases("f6") {
        for (kind, tolerance) in KINDS {
            let net = Net::new(&case, kind);
            let protocol = support::protocol(&case, DecayOrder::Before);
            let mut head = Vec::new();
            let mut step = support::step_at(&case, &protocol, kind, (&net.modules[..2], 0), |context, params| {
                let lora = Lora::new(lora_plus(&case), context, params)?;
                for (part, group) in [("weight", ParamGroup::DECAYED), ("bias", ParamGroup::UNDECAYED)] {
                    head.push(params.add(group, format!("l2.{part}"), &case.tensor(&format!("init.l2.{part}"))));
                }
                Ok(lora)
            });
            support::write(&case, "init", &support::adapters(&step));
            let (losses, reference) = (case.per_step("loss"), floats(&case.json["reference64"]["loss"]));
            for t in 0..protocol.steps {
                let views = step.params().views();
                let (x, y) = support::batch(&case, t, kind);
                let adapters = step.method().adapters(&views);
                let trained = [views.get(head[0]), views.get(head[1])];
                let loss = support::loss(&case, &net.forward_to(&x, &adapters, trained), &y);
                let (loss, _) = step.apply(&loss, &views).unwrap();
                let want = if kind == Kind::Float { losses[t] } else { reference[t] };
                assert_scalar(&format!("loss {t}"), loss.task.double_value(&[]), want, tolerance);
            }
            let (prefix, suffix) = ends(kind);
            assert_adapters(&case, prefix, &support::adapters(&step), tolerance);
            let views = step.params().views();
            let trained = [views.get(head[0]), views.get(head[1])];
            for (part, value) in ["weight", "bias"].into_iter().zip(trained) {
                assert_close(part, value, &case.tensor(&format!("{prefix}.l2.{part}")), tolerance);
            }
            let probe =
                net.forward_to(&case.tensor("data.probe").to_kind(kind), &step.method().adapters(&views), trained);
            let want = case.tensor(&format!("probe.output_unmerged{suffix}"));
            assert_close("probe", &probe, &want, tolerance);
        }
    }
}

/// Rates and decay of every group, as PEFT's optimiser has them.
#[test]
fn lora_plus_has_pefts_groups() {
    for case in cases("f6") {
        let protocol = support::protocol(&case, DecayOrder::Before);
        let options = lora_plus(&case);
        let new = |c: &Context, p: &mut _| Lora::new(options.clone(), c, p);
        let step = support::untouched_step(&case, &protocol, Kind::Float, 0, new);
        let rule = |name: &'static str, decayed: bool| {
            let options = step.method().group_optim(ParamGroup { name, decayed }, &protocol).options;
            (options.lr, options.weight_decay)
        };
        let groups = case.json["groups"].as_array().unwrap();
        let peft = |label: &str| {
            let group = groups.iter().find(|group| group["group"] == label).unwrap();
            (group["lr"].as_f64().unwrap(), group["weight_decay"].as_f64().unwrap())
        };
        assert_eq!(rule("decayed", true), peft("A"));
        assert_eq!(rule("lora_b", true), peft("B"));
        assert_eq!(rule("undecayed", false), peft("B without decay"));
    }
}
