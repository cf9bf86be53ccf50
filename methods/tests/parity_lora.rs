//! LoRA against loralib, step by step: cases d1 in float32 and float64, merged weights included.

mod support;

use methods::optim::config::DecayOrder;
use methods::tuners::lora::{Lora, LoraOptions};
use support::{Case, Net, TOLERANCE, TOLERANCE_64, assert_adapters, assert_close, assert_scalar, cases, floats};
use tch::Kind;

fn follow(case: &Case, kind: Kind, tolerance: f64) {
    let name = format!("{} {kind:?}", case.name());
    let net = Net::new(case, kind);
    let protocol = support::protocol(case, DecayOrder::Before);
    let options = LoraOptions { r: case.count("r") as i64, alpha: case.number("alpha"), ..LoraOptions::default() };
    let mut step = support::step(case, &protocol, kind, 0, |c, p| Lora::new(options, c, p));
    let (losses, norms) = (case.per_step("loss"), case.per_step("grad_norm_before_clip"));
    let reference = floats(&case.json["reference64"]["loss"]);
    let snapshots = support::recorded(case, "snapshot");
    for t in 0..protocol.steps {
        let views = step.params().views();
        let (x, y) = support::batch(case, t, kind);
        let loss = support::loss(case, &net.forward(&x, &step.method().adapters(&views)), &y);
        let (loss, norm) = step.apply(&loss, &views).unwrap();
        let want = if kind == Kind::Float { losses[t] } else { reference[t] };
        assert_scalar(&format!("{name} loss {t}"), loss.task.double_value(&[]), want, tolerance);
        if kind == Kind::Float {
            assert_scalar(&format!("{name} norm {t}"), norm.double_value(&[]), norms[t], tolerance);
            if snapshots.contains(&t) {
                assert_adapters(case, &format!("snapshot.{t}"), &support::adapters(&step), tolerance);
            }
        }
    }
    let (prefix, suffix) = if kind == Kind::Float { ("final", "") } else { ("final64", "64") };
    let adapters = support::adapters(&step);
    assert_adapters(case, prefix, &adapters, tolerance);
    let probe = net.forward(&case.tensor("data.probe").to_kind(kind), &adapters);
    assert_close(&format!("{name} probe"), &probe, &case.tensor(&format!("probe.output_unmerged{suffix}")), tolerance);
    if kind == Kind::Float {
        assert_close(&format!("{name} merged probe"), &probe, &case.tensor("probe.output_merged"), tolerance);
        for (i, adapter) in adapters.modules.iter().flatten().enumerate() {
            let merged = net.weight(i) + adapter.delta();
            assert_close(
                &format!("{name} merged l{i}"),
                &merged,
                &case.tensor(&format!("merged.l{i}.weight")),
                tolerance,
            );
            assert_scalar("scale", adapter.scale, case.json["scale"].as_f64().unwrap(), 1e-12);
        }
    }
}

#[test]
fn training_follows_loralib() {
    for case in cases("d1") {
        follow(&case, Kind::Float, TOLERANCE);
        follow(&case, Kind::Double, TOLERANCE_64);
    }
}
