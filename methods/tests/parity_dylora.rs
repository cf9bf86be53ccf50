//! DyLoRA against a statement of its released layer, step by step: cases f5 in float32 and float64.

mod support;

use methods::optim::config::DecayOrder;
use methods::tuners::dylora::{DyLora, DyLoraOptions};
use methods::{StepCounter, TrainState};
use support::training::{KINDS, ends, train};
use support::{Case, Net, assert_adapters, assert_close, cases, floats};
use tch::{Device, Kind, Tensor};

#[test]
fn dylora_follows_the_released_layer() {
    for case in cases("f5") {
        let options = DyLoraOptions {
            r: case.count("r") as i64,
            alpha: case.number("alpha"),
            frozen: case.config("frozen").as_bool().unwrap(),
            ..DyLoraOptions::default()
        };
        let ranks: Vec<i64> = floats(case.config("ranks")).into_iter().map(|rank| rank as i64).collect();
        for (kind, tolerance) in KINDS {
            let net = Net::new(&case, kind);
            let protocol = support::protocol(&case, DecayOrder::Before);
            let mut step = support::step(&case, &protocol, kind, 0, |context, params| {
                let mut dylora = DyLora::new(options.clone(), context, params)?;
                dylora.set_ranks(&Tensor::from_slice(&ranks));
                Ok(dylora)
            });
            train(&case, &net, &mut step, (kind, tolerance), |t, step| {
                assert_adapters(&case, &format!("snapshot.{t}"), &support::adapters(step), tolerance);
            });
            let (prefix, suffix) = ends(kind);
            assert_adapters(&case, prefix, &support::adapters(&step), tolerance);
            every_rank_is_usable(&case, &net, &options, &step, (kind, tolerance, suffix));
        }
    }
}

/// One training, every rank: the evaluated rank alone differs.
fn every_rank_is_usable(
    case: &Case,
    net: &Net,
    options: &DyLoraOptions,
    step: &TrainState,
    (kind, tolerance, suffix): (Kind, f64, &str),
) {
    let protocol = support::protocol(case, DecayOrder::Before);
    let trained = step.params().state();
    for rank in 1..=options.r {
        let options = DyLoraOptions { eval_r: Some(rank), ..options.clone() };
        let other = support::untouched_step(case, &protocol, kind, 0, |c, p| DyLora::new(options.clone(), c, p));
        assert!(trained.iter().all(|(group, value)| other.params().load(group, value)));
        let adapters = support::adapters(&other);
        let got = net.forward(&case.tensor("data.probe").to_kind(kind), &adapters);
        let want = case.tensor(&format!("probe.rank{rank}.output{suffix}"));
        assert_close(&format!("{} rank {rank}", case.name()), &got, &want, tolerance);
        assert!(adapters.modules.iter().flatten().all(|adapter| adapter.to_lora().rank() == rank));
        let counts = other.method().counts(other.params());
        assert_eq!(counts.effective * options.r, counts.allocated * rank);
    }
}

/// A step's rank is read on the device, so that one captured step serves them all; every rank is drawn about as often.
#[test]
fn dylora_draws_every_rank_in_one_phase() {
    for case in cases("f5") {
        let mut protocol = support::protocol(&case, DecayOrder::Before);
        protocol.steps = 400;
        tch::manual_seed(3);
        let options = DyLoraOptions { r: 4, alpha: 8.0, ..DyLoraOptions::default() };
        let step = support::step(&case, &protocol, Kind::Float, 0, |c, p| DyLora::new(options.clone(), c, p));
        let values = &step.params().groups()[0].flat;
        tch::no_grad(|| drop(values.shallow_clone().fill_(1.0)));
        let (views, module) = (step.params().views(), &support::modules(&case.dims())[0]);
        let mut number = StepCounter::zero(Device::Cpu);
        let mut drawn = [0; 4];
        for t in 0..protocol.steps {
            number.set(t);
            assert_eq!(step.method().phase(t), 0);
            let attached = step.method().attach_step(&views, &number);
            let row = Vec::<f32>::try_from(attached.low_rank(module).unwrap().scaled_b.detach().get(0)).unwrap();
            let rank = row.iter().filter(|&&scale| scale > 0.0).count();
            assert!(row[..rank].iter().all(|&scale| scale == 8.0 / rank as f32), "{row:?}");
            drawn[rank - 1] += 1;
        }
        assert!(drawn.iter().all(|count| (60..140).contains(count)), "{drawn:?}");
    }
}
