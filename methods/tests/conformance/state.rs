//! Saved states.

use tch::{Device, Kind, Tensor};

use crate::model::{Model, STEPS, error, everywhere, everywhere_twice};

fn same_state(first: &Model, second: &Model) {
    for ((name, a), (other, b)) in first.step.state().iter().zip(second.step.state()) {
        assert!(*name == other && error(a, &b) == 0.0, "{}: {name} differs by {}", first.title, error(a, &b));
    }
}

#[test]
fn a_saved_state_gives_the_same_next_steps() {
    everywhere_twice(|mut first, mut second| {
        first.train(5);
        second.step.load(&first.step.state()).unwrap();
        same_state(&first, &second);
        for step in 5..STEPS {
            assert_eq!(first.train_one(), second.train_one(), "{} at step {step}", first.title);
        }
        same_state(&first, &second);
    });
}

#[test]
fn a_state_of_another_run_is_refused() {
    everywhere(|mut model| {
        let odd = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        for name in ["params.decayed", "optimizer.decayed.first", "optimizer.decayed.third", "what"] {
            let refused = model.step.load(&[(name.to_string(), odd.shallow_clone())]);
            assert!(refused.is_err(), "{}: took {name}", model.title);
        }
    });
}
