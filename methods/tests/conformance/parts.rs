//! A step in parts against the step of the whole batch, with dropout, in float64.

use encoders::{Pass, TokenBatch};
use methods::train_state::{Part, StepLoss};
use tch::{Device, Kind, Tensor};
use torch_ext::ops::dropout::DropoutRng;

use crate::model::{Model, ROWS, error, everywhere_in, inputs, task_loss_of};

const TOLERANCE_64: f64 = 1e-10;
const SEED: i64 = 3;
/// Steps that are compared: AdaLoRA's importance is an average over them.
const TAKEN: usize = 3;

/// A step in parts of at most so many rows.
fn step(model: &mut Model, rng: &DropoutRng, rows: i64) -> StepLoss {
    let all = inputs(model.encoder.as_ref());
    let mut losses: Vec<StepLoss> = Vec::new();
    for first in (0..ROWS).step_by(rows as usize) {
        let count = rows.min(ROWS - first);
        let of = |x: &Tensor| x.narrow(0, first, count);
        let [input_ids, attention_mask, token_type_ids] =
            [&all.input_ids, &all.attention_mask, &all.token_type_ids].map(of);
        let batch = TokenBatch { input_ids, attention_mask, token_type_ids, token_capacity: None };
        rng.begin_at(first);
        let views = model.step.params().views();
        let attached = model.step.method().attach_step(&views, model.step.step());
        let pass = Pass { attach: attached.as_ref(), dropout: Some(rng) };
        let hidden = model.encoder.last_hidden_state(&batch, pass);
        let logits = model.encoder.logits(&hidden, &batch, &model.head(&views), pass);
        let part = Part { share: count as f64 / ROWS as f64, is_first: first == 0 };
        let (total, loss) = model.step.loss_of(part, &task_loss_of(&logits, first), &views);
        total.backward();
        losses.push(loss);
    }
    let _norm = model.step.update().unwrap();
    model.step.advance();
    rng.advance();
    losses.into_iter().reduce(StepLoss::plus).unwrap()
}

#[test]
fn steps_in_parts_are_those_of_the_whole_batch() {
    for rows in [1, 3, 4] {
        everywhere_in(Kind::Double, |mut whole, mut in_parts| {
            in_parts.step.load(&whole.step.state()).unwrap();
            let rngs = [(); 2].map(|()| DropoutRng::new(&[SEED], Device::Cpu));
            for taken in 0..TAKEN {
                let want = step(&mut whole, &rngs[0], ROWS);
                let got = step(&mut in_parts, &rngs[1], rows);
                let title = format!("{} in parts of {rows}, step {taken}", whole.title);
                assert!(error(&got.task, &want.task) <= TOLERANCE_64, "{title}: the loss");
                assert_eq!(got.penalty.is_some(), want.penalty.is_some(), "{title}");
                if let (Some(got), Some(want)) = (&got.penalty, &want.penalty) {
                    assert!(error(got, want) <= TOLERANCE_64, "{title}: the method's term");
                }
                for ((name, got), (_, want)) in in_parts.step.state().iter().zip(whole.step.state()) {
                    let off = error(got, &want);
                    assert!(off <= TOLERANCE_64, "{title}: {name} is off by {off:e}");
                }
            }
        });
    }
}

/// The tolerance tells parts with other dropout from those of the whole batch.
#[test]
fn parts_that_drop_other_values_do_not_pass() {
    everywhere_in(Kind::Double, |mut whole, mut other| {
        other.step.load(&whole.step.state()).unwrap();
        let want = step(&mut whole, &DropoutRng::new(&[SEED], Device::Cpu), ROWS);
        let got = step(&mut other, &DropoutRng::new(&[SEED + 1], Device::Cpu), 3);
        assert!(error(&got.task, &want.task) > 1e3 * TOLERANCE_64, "{}", whole.title);
    });
}
