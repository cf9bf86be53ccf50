//! Training runs as the cases f1 to f9 have them: losses and norms of every step in float32, losses in float64.

use methods::TrainState;
use tch::{Device, Kind};
use torch_ext::ops::dropout::DropoutRng;

use super::{Case, Net, TOLERANCE, TOLERANCE_64, assert_scalar, batch, floats, loss};

/// Both precisions with their tolerances.
pub const KINDS: [(Kind, f64); 2] = [(Kind::Float, TOLERANCE), (Kind::Double, TOLERANCE_64)];

/// Takes the case's steps; `check` sees the state after each.
pub fn train(
    case: &Case,
    net: &Net,
    step: &mut TrainState,
    (kind, tolerance): (Kind, f64),
    check: impl Fn(usize, &TrainState),
) {
    let (losses, norms) = (case.per_step("loss"), case.per_step("grad_norm_before_clip"));
    let reference = floats(&case.json["reference64"]["loss"]);
    let rng = case.config("dropout_seed").as_i64().map(|seed| DropoutRng::new(&[seed], Device::Cpu));
    for t in 0..case.count("steps") {
        let name = format!("{} {kind:?} step {t}", case.name());
        let views = step.params().views();
        let (x, y) = batch(case, t, kind);
        let attached = step.method().attach_step(&views, step.step());
        let loss = loss(case, &net.forward_step(&x, attached.as_ref(), rng.as_ref()), &y);
        let (loss, norm) = step.apply(&loss, &views).unwrap();
        let want = if kind == Kind::Float { losses[t] } else { reference[t] };
        assert_scalar(&format!("{name}: loss"), loss.task.double_value(&[]), want, tolerance);
        if kind == Kind::Float {
            assert_scalar(&format!("{name}: norm"), norm.double_value(&[]), norms[t], tolerance);
            check(t, step);
        }
        rng.iter().for_each(DropoutRng::advance);
    }
}

/// Start of the names of final tensors, and end of those of float64.
pub fn ends(kind: Kind) -> (&'static str, &'static str) {
    if kind == Kind::Float { ("final", "") } else { ("final64", "64") }
}
