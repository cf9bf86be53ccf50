//! SoRA against the released code, step by step: cases c1, c2, c5 and c6 in float32 and float64, c3 and c4 as tables.

mod support;

use methods::StepCounter;
use methods::optim::adamw::AdamW;
use methods::optim::config::{AdamWOptions, DecayOrder, LinearSchedule};
use methods::peft::low_rank::adapter::LowRankAdapter;
use methods::tuners::sora::options::{SoraOptions, Variant, XiSchedule, XiSpacing};
use methods::tuners::sora::xi::spaced;
use methods::tuners::sora::{Sora, prox};
use serde_json::Value;
use support::{Case, Net, TOLERANCE, TOLERANCE_64, assert_adapters, assert_close, assert_scalar, cases, floats};
use tch::{Device, Kind, Tensor};
use torch_ext::ops::adamw;

fn spacing(name: &str) -> XiSpacing {
    match name {
        "linear" => XiSpacing::Linear,
        "log_linear" => XiSpacing::LogLinear,
        "exp_linear" => XiSpacing::ExpLinear,
        other => panic!("unknown spacing {other}"),
    }
}

fn options(case: &Case) -> SoraOptions {
    let variant = match case.config("form").as_str().unwrap() {
        "released" => Variant::Released,
        "paper" => Variant::Paper,
        other => panic!("{}: unknown form {other}", case.name()),
    };
    let r = case.count("r") as i64;
    // The case's threshold is lr * λ; ours is the map of λ times the mean |g|.
    let gates = support::modules(&case.dims()).len() as f64 * r as f64;
    let (l1_weight, prox_weight) = match variant {
        Variant::Released => (case.number("sparse_lambda"), 0.0),
        Variant::Paper => (0.0, case.number("lambda_paper") * gates),
    };
    let xi_schedule = case.config("lambda_schedule").as_str().map(|name| XiSchedule {
        spacing: spacing(name),
        max: case.number("max_lambda"),
        stages: case.count("lambda_num"),
    });
    SoraOptions {
        r,
        alpha: case.number("alpha"),
        variant,
        l1_weight,
        prox_weight,
        xi: case.number("sparse_lambda_2"),
        gate_lr: Some(case.number("sparse_lr")),
        xi_schedule,
        ..SoraOptions::default()
    }
}

fn follow(case: &Case, kind: Kind, tolerance: f64) {
    let name = format!("{} {kind:?}", case.name());
    let net = Net::new(case, kind);
    let protocol = support::protocol(case, DecayOrder::After);
    let hidden = case.count("counter_hidden_size") as i64;
    let mut step = support::step(case, &protocol, kind, hidden, |c, p| Sora::new(options(case), c, p));
    let column = |key: &str| case.per_step(key);
    let (total, task, norm, nonzero) =
        (column("loss_total"), column("loss_task"), column("grad_norm_before_clip"), column("nonzero_gates"));
    let stages: Vec<usize> = match case.config("stages") {
        Value::Null => vec![protocol.steps],
        list => floats(list).into_iter().map(|n| n as usize).collect(),
    };
    let mut left = stages[0];
    let mut stage = 0;
    let snapshots = support::recorded(case, "snapshot");
    for t in 0..protocol.steps {
        if left == 0 {
            step.stage_end();
            stage += 1;
            left = stages[stage];
        }
        left -= 1;
        let views = step.params().views();
        let adapters = step.method().adapters(&views);
        let (x, y) = support::batch(case, t, kind);
        let loss = support::loss(case, &net.forward(&x, &adapters), &y);
        let (losses, grad_norm) = step.apply(&loss, &views).unwrap();
        let got_task = losses.task.double_value(&[]);
        let got_total = got_task + losses.penalty.map_or(0.0, |p| p.double_value(&[]));
        if kind == Kind::Float {
            assert_scalar(&format!("{name} loss_task {t}"), got_task, task[t], tolerance);
            assert_scalar(&format!("{name} loss_total {t}"), got_total, total[t], tolerance);
            assert_scalar(&format!("{name} norm {t}"), grad_norm.double_value(&[]), norm[t], tolerance);
        } else {
            let want = floats(&case.json["reference64"]["loss_total"])[t];
            assert_scalar(&format!("{name} loss_total {t}"), got_total, want, tolerance);
        }
        let adapters = support::adapters(&step);
        let kept: i64 = adapters.modules.iter().flatten().map(methods::LoraLayer::rank).sum();
        assert_eq!(kept, nonzero[t] as i64, "{name}: gates kept after step {t}");
        for (i, adapter) in adapters.modules.iter().flatten().enumerate() {
            let gate = adapter.gate.as_ref().unwrap();
            let want = case.tensor(&format!("traj.l{i}.gate")).get(t as i64);
            assert_eq!(gate.ne(0.0), want.ne(0.0), "{name}: mask of l{i} after step {t}");
            if kind == Kind::Float {
                assert_close(&format!("{name} gate l{i} step {t}"), gate, &want, tolerance);
            }
        }
        if kind == Kind::Float && snapshots.contains(&t) {
            assert_adapters(case, &format!("snapshot.{t}"), &adapters, tolerance);
        }
    }
    check_end(case, &net, &step, kind, tolerance);
}

/// Final weights, counts, and the way back to plain LoRA.
fn check_end(case: &Case, net: &Net, step: &methods::TrainState, kind: Kind, tolerance: f64) {
    let (prefix, masked) = match kind {
        Kind::Float => ("final", "probe.output_masked"),
        _ => ("final64", "probe.output_masked64"),
    };
    let adapters = support::adapters(step);
    assert_adapters(case, prefix, &adapters, tolerance);
    let probe = case.tensor("data.probe").to_kind(kind);
    assert_close(masked, &net.forward(&probe, &adapters), &case.tensor(masked), tolerance);
    let counts = step.method().counts(step.params());
    let want = |key: &str| case.json["counts"][key].as_i64().unwrap();
    assert_eq!(counts.as_published, want("released_counter_sparse"));
    assert_eq!(counts.effective, want("exact_sum_rank_times_din_plus_dout"));
    let folded = LowRankAdapter::folded(&net.modules, &adapters, Default::default());
    let pruned = folded.adapters(&net.modules);
    assert_close("pruned output", &net.forward(&probe, &pruned), &net.forward(&probe, &adapters), tolerance);
    if kind != Kind::Float {
        return;
    }
    for module in &net.modules {
        let Some(factors) = folded.factors.get(&module.path) else {
            assert_eq!(case.tensor(&format!("pruned.{}.A", module.path)).size()[0], 0);
            continue;
        };
        assert_close("pruned A", &factors.a, &case.tensor(&format!("pruned.{}.A", module.path)), tolerance);
        assert_close("pruned B", &factors.b, &case.tensor(&format!("pruned.{}.B", module.path)), tolerance);
        assert_scalar("pruned scale", factors.scale, case.json["pruned_scale"].as_f64().unwrap(), 1e-12);
    }
    assert_close("probe.output_pruned", &net.forward(&probe, &pruned), &case.tensor("probe.output_pruned"), tolerance);
}

#[test]
fn training_follows_the_released_code() {
    for case in ["c1", "c2", "c5", "c6"].iter().flat_map(|class| cases(class)) {
        follow(&case, Kind::Float, TOLERANCE);
        follow(&case, Kind::Double, TOLERANCE_64);
    }
}

/// Starting each step from the recorded gates would hide drift: a wrong threshold must show.
#[test]
fn another_threshold_does_not_pass() {
    for mut changed in cases("c1") {
        changed.json["config"]["sparse_lambda_2"] = 0.05.into();
        let text = support::panic_text(|| follow(&changed, Kind::Float, 1e9));
        assert!(text.contains("gates kept"), "{}: {text}", changed.name());
    }
}

#[test]
fn xi_lists_are_the_released_lists() {
    for case in cases("c3") {
        for row in case.json["rows"].as_array().unwrap() {
            let get = |key: &str| row[key].as_f64().unwrap();
            let n = row["lambda_num"].as_u64().unwrap() as usize;
            let name = row["schedule"].as_str().unwrap();
            let got = spaced(spacing(name), get("sparse_lambda"), get("max_lambda"), n);
            let want = floats(&row["lambdas"]);
            assert_eq!(got.len(), want.len(), "{row}");
            for (got, want) in got.iter().zip(&want) {
                let same = got == want || (got.is_nan() && want.is_nan());
                assert!(
                    same || (got - want).abs() <= 1e-15 * want.abs().max(1e-3),
                    "{name}: got {got:e}, expected {want:e}"
                );
            }
        }
    }
}

#[test]
fn operators_are_the_released_operators() {
    for case in cases("c4") {
        for row in case.json["thresholds"].as_array().unwrap() {
            let (index, tau) = (row["index"].as_u64().unwrap(), row["tau"].as_f64().unwrap());
            for (kind, type_name) in [(Kind::Float, "f32"), (Kind::Double, "f64")] {
                let get = |part: &str| case.tensor(&format!("op{index}.{type_name}.{part}"));
                let tau = Tensor::from(tau).to_kind(kind);
                let input = get("input");
                assert_eq!(prox::released(&input, &tau), get("released"), "released, table {index}, {type_name}");
                assert_eq!(prox::soft(&input, &tau), get("soft"), "soft, table {index}, {type_name}");
            }
        }
        for row in case.json["optimizers"].as_array().unwrap() {
            for (kind, type_name) in [(Kind::Float, "f32"), (Kind::Double, "f64")] {
                optimizer_row(&case, row, kind, type_name);
            }
        }
        for row in case.json["schedules"].as_array().unwrap() {
            let get = |key: &str| row[key].as_u64().unwrap() as usize;
            let schedule = LinearSchedule { warmup: get("warmup"), total: get("total"), ..LinearSchedule::default() };
            for (t, want) in floats(&row["factor_per_step"]).into_iter().enumerate() {
                assert_eq!(schedule.factor(t), want, "{schedule:?} at {t}");
            }
        }
    }
}

fn optimizer_row(case: &Case, row: &Value, kind: Kind, type_name: &str) {
    let index = row["index"].as_u64().unwrap();
    let arguments = &row["arguments"];
    let get = |key: &str, default: f64| arguments[key].as_f64().unwrap_or(default);
    let (lr, decay) = (get("lr", f64::NAN), get("weight_decay", 0.0));
    let name = row["optimizer"].as_str().unwrap();
    // SparseAdamW decays with the value before the update; AdamW_4.14.1 with the value after it.
    let options = match name {
        "SparseAdamW" => AdamWOptions {
            eps: get("eps", 1e-6),
            eps_on_corrected_root: false,
            ..AdamWOptions::new(lr, decay, DecayOrder::Before)
        },
        "AdamW_4.14.1" => AdamWOptions { eps: get("eps", 1e-6), ..AdamWOptions::new(lr, decay, DecayOrder::After) },
        _ if name.starts_with("torch") => AdamWOptions {
            eps: get("eps", 1e-8),
            ..AdamWOptions::new(lr, get("weight_decay", 0.01), DecayOrder::Before)
        },
        other => panic!("unknown optimizer {other}"),
    };
    let grads = case.tensor(&format!("optim{index}.grads")).to_kind(kind);
    let start = case.tensor(&format!("optim{index}.start")).to_kind(kind);
    let want = case.tensor(&format!("optim{index}.{type_name}.trajectory"));
    let values = start.copy();
    let optimizer = AdamW::new(&values, options, grads.size()[0] as usize, |_| 1.0);
    let tau = Tensor::from(get("sparse_lambda", 0.0)).to_kind(kind).to_device(Device::Cpu);
    let mut number = StepCounter::zero(Device::Cpu);
    for t in 0..grads.size()[0] {
        let factor = Tensor::from(1.0).to_kind(values.kind());
        adamw::apply(&[optimizer.update(&values, grads.get(t), &factor, &number).unwrap()]).unwrap();
        number.set(t as usize + 1);
        if get("sparse_lambda", 0.0) > 0.0 {
            values.shallow_clone().copy_(&prox::released(&values, &tau));
        }
        let tolerance = if kind == Kind::Float { 1e-6 } else { 1e-12 };
        assert_close(&format!("{name} {arguments} {type_name} step {t}"), &values, &want.get(t), tolerance);
    }
}
