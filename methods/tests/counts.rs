//! Parameter counts at the paper's size, against the closed formulas and what the authors' programs printed (spec §1.4,
//! §1.5, §3.8). Only the shapes of DeBERTaV3-base's modules are needed.

use encoders::{ModuleKind, TargetModule};
use methods::adapter::pissa::PrincipalComponents;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::ParamsBuilder;
use methods::registry::find;
use methods::tuners::sora::GATES;
use methods::{Context, Counts, OptimConfig, TrainState};
use tch::{Device, Kind, Tensor};

fn target_modules() -> Vec<TargetModule> {
    let kinds = [
        (ModuleKind::Query, "attention.self.query_proj", 768, 768),
        (ModuleKind::Key, "attention.self.key_proj", 768, 768),
        (ModuleKind::Value, "attention.self.value_proj", 768, 768),
        (ModuleKind::AttentionOutput, "attention.output.dense", 768, 768),
        (ModuleKind::Intermediate, "intermediate.dense", 768, 3072),
        (ModuleKind::Output, "output.dense", 3072, 768),
    ];
    let module = |index: usize| {
        let (layer, (kind, name, d_in, d_out)) = (index / kinds.len(), kinds[index % kinds.len()]);
        let path = format!("deberta.encoder.layer.{layer}.{name}");
        TargetModule { index, path, kind, layer, d_in, d_out, weight: index }
    };
    (0..12 * kinds.len()).map(module).collect()
}

fn protocol() -> OptimConfig {
    let schedule = LinearSchedule { warmup: 0, total: 100, ..LinearSchedule::default() };
    OptimConfig {
        lr: 1e-3,
        weight_decay: 0.0,
        decay_order: DecayOrder::Before,
        max_grad_norm: 1.0,
        steps: 100,
        schedule,
        gate_schedule: schedule,
    }
}

fn step(method: &str, options: &str) -> TrainState {
    let (protocol, modules) = (protocol(), target_modules());
    let context = Context {
        target_modules: &modules,
        backbone: &[],
        components: &PrincipalComponents::default(),
        protocol: &protocol,
        hidden_size: 768,
        seed: 1,
    };
    let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
    let entry = find(method).unwrap();
    let options = entry.options(&options.parse().unwrap()).unwrap();
    let method = entry.build(&options, &context, &mut params).unwrap();
    TrainState::new(params.finish(), method, &protocol)
}

fn counts(step: &TrainState) -> Counts {
    step.method().counts(step.params())
}

#[test]
fn lora_is_165_888_a_rank() {
    for (r, count) in [(1, 165_888), (2, 331_776), (4, 663_552), (8, 1_327_104), (16, 2_654_208)] {
        assert_eq!(counts(&step("lora", &format!("r = {r}"))), Counts::dense(count));
    }
}

/// The released baseline, OpenDelta's default: 294,912 at r = 8, 589,824 at r = 16 (spec §1.2, D2).
#[test]
fn lora_on_query_and_value_is_36_864_a_rank() {
    for names in ["['query', 'value']", "['query_proj', 'value_proj']"] {
        for (r, count) in [(1, 36_864), (8, 294_912), (16, 589_824)] {
            let step = step("lora", &format!("r = {r}\ntarget_modules = {names}"));
            assert_eq!((counts(&step), step.params().numel()), (Counts::dense(count), count));
        }
    }
}

/// Every counter follows the chosen modules: 24 of 768 x 768.
#[test]
fn chosen_modules_are_counted_in_every_method() {
    let chosen = "target_modules = ['query', 'value']";
    let of = |method: &str, options: &str| {
        let step = step(method, &format!("{options}\n{chosen}"));
        let counts = counts(&step);
        assert_eq!(counts.allocated, step.params().numel(), "{method}");
        counts
    };
    assert_eq!(of("dylora", "eval_r = 4").as_published, 294_912 / 2);
    let sora = of("sora", "");
    assert_eq!((sora.allocated, sora.as_published), (294_912 + 24 * 8, 294_912));
    assert_eq!(of("adalora", "tinit = 10\ntfinal = 30").allocated, 24 * 12 * (2 * 768 + 1));
}

#[test]
fn adalora_begins_with_1_991_520() {
    let step = step("adalora", "init_r = 12\ntarget_r = 8\ntinit = 10\ntfinal = 30");
    assert_eq!((counts(&step).allocated, step.params().numel()), (1_991_520, 1_991_520));
}

#[test]
fn adapters_are_those_of_the_script() {
    for (width, count) in [(12, 461_088), (16, 608_640), (32, 1_198_848)] {
        assert_eq!(counts(&step("adapter", &format!("width = {width}"))), Counts::dense(count));
    }
    let one_a_layer = counts(&step("adapter", "width = 16\nplacement = \"pfeiffer\""));
    assert_eq!(one_a_layer.allocated, 608_640 / 2);
}

/// The authors' counter takes 2 * 768 from the total for every zero gate, also in the feed-forward part, where a rank
/// costs 768 + 3072 (spec §3.8).
#[test]
fn soras_two_counters_part_in_the_feed_forward_layers() {
    let step = step("sora", "r = 8");
    assert_eq!(counts(&step).allocated, 1_327_104 + 576);
    let gates = step.params().group(GATES).unwrap().flat.detach();
    let zero = |ranges: &[(i64, i64)]| {
        let values = Tensor::ones([576], (Kind::Float, Device::Cpu));
        for &(start, length) in ranges {
            let _ = values.narrow(0, start, length).fill_(0.0);
        }
        tch::no_grad(|| gates.shallow_clone().copy_(&values));
        counts(&step)
    };
    let dense = zero(&[]);
    assert_eq!((dense.as_published, dense.effective), (1_327_104, 1_327_104));
    // Gates lie by shape: 48 square modules, then 12 intermediate, then 12 output ones.
    let square = zero(&[(0, 100)]);
    assert_eq!(square.as_published, 1_327_104 - 1_536 * 100);
    assert_eq!(square.effective, 1_327_104 - 1_536 * 100);
    let feed_forward = zero(&[(384, 192)]);
    assert_eq!(feed_forward.as_published, 1_327_104 - 1_536 * 192);
    assert_eq!(feed_forward.effective, 1_327_104 - 3_840 * 192);
    // With every gate zero the authors' counter still says 442,368.
    assert_eq!((zero(&[(0, 576)]).as_published, zero(&[(0, 576)]).effective), (442_368, 0));
}

/// With nothing to train in the backbone the head alone would be trained, and the row would say BitFit.
#[test]
fn bitfit_on_a_backbone_without_biases_is_refused_by_name() {
    let backbone = [("encoder.weight".to_string(), Tensor::ones([2, 2], (Kind::Float, Device::Cpu)))];
    let (protocol, modules) = (protocol(), target_modules());
    let build = |name: &str| {
        let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
        let context = Context {
            target_modules: &modules,
            backbone: &backbone,
            components: &PrincipalComponents::default(),
            protocol: &protocol,
            hidden_size: 768,
            seed: 1,
        };
        find(name).unwrap().build(&toml::Table::new(), &context, &mut params).map(drop)
    };
    build("full").unwrap();
    let said = build("bitfit").unwrap_err().to_string();
    assert!(said.contains("'bitfit'") && said.contains("choose another method or backbone"), "{said}");
}
