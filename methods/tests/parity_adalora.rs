//! AdaLoRA against the released code and against huggingface/peft, step by step: cases b1 to b4 in float32 and float64; b5
//! and b6 as tables.

mod support;

use encoders::{ModuleKind, TargetModule};
use methods::adapter::pissa::PrincipalComponents;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::{Params, ParamsBuilder};
use methods::tuners::adalora::AdaLora;
use methods::tuners::adalora::budget::{Budget, Phase};
use methods::tuners::adalora::options::{AdaLoraOptions, FinalPhase, Span};
use methods::{Context, LoraLayers, Method, OptimConfig};
use support::{Case, Net, TOLERANCE, TOLERANCE_64, assert_adapters, assert_close, assert_scalar, cases, floats};
use tch::{Device, Kind, Tensor};

fn options(case: &Case) -> AdaLoraOptions {
    let peft = case.json["implementation"].as_str().unwrap().contains("peft");
    AdaLoraOptions {
        init_r: case.count("init_r") as i64,
        target_r: case.count("target_r") as i64,
        alpha: case.number("alpha"),
        gamma: case.number("gamma"),
        tinit: Span::Steps(case.count("tinit")),
        tfinal: Span::Steps(case.count("tfinal")),
        delta_t: case.count("deltaT"),
        beta1: case.number("beta1"),
        beta2: case.number("beta2"),
        final_phase: if peft { FinalPhase::Peft } else { FinalPhase::Released },
        ..AdaLoraOptions::default()
    }
}

fn follow(case: &Case, kind: Kind, tolerance: f64) {
    let name = format!("{} {kind:?}", case.name());
    let net = Net::new(case, kind);
    let protocol = support::protocol(case, DecayOrder::Before);
    let mut step = support::step(case, &protocol, kind, 0, |c, p| AdaLora::new(options(case), c, p));
    let column = |key: &str| case.per_step(key);
    let (total, task, norm) = (column("loss_total"), column("loss_task"), column("grad_norm_before_clip"));
    let gamma = case.number("gamma");
    let penalty: Vec<f64> = match case.json["per_step"].get("orth_regu") {
        Some(list) => floats(list).into_iter().map(|value| gamma * value).collect(),
        None => column("orth_regu_weighted"),
    };
    let averages = support::recorded(case, "ema");
    let weights = support::recorded(case, "param");
    for t in 0..protocol.steps {
        let views = step.params().views();
        let adapters = step.method().adapters(&views);
        let (x, y) = support::batch(case, t, kind);
        let loss = support::loss(case, &net.forward(&x, &adapters), &y);
        let (losses, grad_norm) = step.apply(&loss, &views).unwrap();
        let got_task = losses.task.double_value(&[]);
        let got_penalty = losses.penalty.unwrap().double_value(&[]);
        if kind == Kind::Float {
            assert_scalar(&format!("{name} loss_task {t}"), got_task, task[t], tolerance);
            assert_scalar(&format!("{name} penalty {t}"), got_penalty, penalty[t], tolerance);
            assert_scalar(&format!("{name} loss_total {t}"), got_task + got_penalty, total[t], tolerance);
            assert_scalar(&format!("{name} norm {t}"), grad_norm.double_value(&[]), norm[t], tolerance);
        } else {
            let want = floats(&case.json["reference64"]["loss_total"])[t];
            assert_scalar(&format!("{name} loss_total {t}"), got_task + got_penalty, want, tolerance);
        }
        let adapters = support::adapters(&step);
        for (i, adapter) in adapters.modules.iter().flatten().enumerate() {
            let values = adapter.gate.as_ref().unwrap();
            let want = case.tensor(&format!("traj.l{i}.lora_E")).get(t as i64);
            assert_eq!(values.ne(0.0), want.ne(0.0), "{name}: mask of l{i} after step {t}");
            if kind == Kind::Float {
                assert_close(&format!("{name} E of l{i} after step {t}"), values, &want, tolerance);
            }
        }
        if kind == Kind::Float && averages.contains(&t) {
            assert_importance(case, t, &step, tolerance);
        }
        if kind == Kind::Float && weights.contains(&t) {
            assert_adapters(case, &format!("param.{t}"), &adapters, tolerance);
        }
    }
    let (prefix, probe) = if kind == Kind::Float { ("final", "probe.output") } else { ("final64", "probe.output64") };
    let adapters = support::adapters(&step);
    assert_adapters(case, prefix, &adapters, tolerance);
    let output = net.forward(&case.tensor("data.probe").to_kind(kind), &adapters);
    assert_close(&format!("{name} {probe}"), &output, &case.tensor(probe), tolerance);
}

/// Compares the averages with `ema.<t>.<module>.*` and the triplet scores made from them with `score.<t>.*`.
fn assert_importance(case: &Case, t: usize, step: &methods::TrainState, tolerance: f64) {
    let state = step.method().state();
    let as_adapters = |name: &str| {
        let value = &state.iter().find(|(n, _)| n == name).unwrap().1;
        let twin = support::step(case, &support::protocol(case, DecayOrder::Before), value.kind(), 0, |c, p| {
            AdaLora::new(options(case), c, p)
        });
        assert!(twin.params().load("decayed", value), "averages are laid out as the parameters are");
        support::adapters(&twin)
    };
    let (average, uncertainty) = (as_adapters("average"), as_adapters("uncertainty"));
    let part = |of: &LoraLayers, i: usize, letter: &str| {
        let adapter = of.modules[i].as_ref().unwrap();
        match letter {
            "A" => adapter.a.shallow_clone(),
            "B" => adapter.b.shallow_clone(),
            _ => adapter.gate.as_ref().unwrap().unsqueeze(1),
        }
    };
    for i in 0..step.method().target_modules().len() {
        for letter in ["A", "B", "E"] {
            for (of, suffix) in [(&average, "exp_avg_ipt"), (&uncertainty, "exp_avg_unc")] {
                let name = format!("ema.{t}.l{i}.lora_{letter}.{suffix}");
                if case.has(&name) {
                    // Averages of |w g| are tiny: compare them scaled up.
                    let want = case.tensor(&name);
                    let scale = 1.0 / want.abs().max().double_value(&[]).max(1e-12);
                    assert_close(&name, &(part(of, i, letter) * scale), &(want * scale), 5.0 * tolerance);
                }
            }
        }
        let name = format!("score.{t}.l{i}");
        if case.has(&name) {
            let product = |letter| part(&average, i, letter) * part(&uncertainty, i, letter);
            let score = product("E").squeeze()
                + product("A").mean_dim(1, false, None::<Kind>)
                + product("B").mean_dim(0, false, None::<Kind>);
            let want = case.tensor(&name);
            let scale = 1.0 / want.abs().max().double_value(&[]).max(1e-20);
            assert_close(&name, &(score * scale), &(want * scale).view(-1), 1e-4);
        }
    }
}

#[test]
fn training_follows_the_peers() {
    for case in ["b1", "b2", "b3", "b4"].iter().flat_map(|class| cases(class)) {
        follow(&case, Kind::Float, TOLERANCE);
        follow(&case, Kind::Double, TOLERANCE_64);
    }
}

#[test]
fn another_budget_does_not_pass() {
    for mut changed in cases("b1") {
        changed.json["config"]["target_r"] = 3.into();
        let text = support::panic_text(|| follow(&changed, Kind::Float, 1e9));
        assert!(text.contains("mask of"), "{}: {text}", changed.name());
    }
}

#[test]
fn budgets_are_the_released_budgets() {
    for case in cases("b5") {
        for table in case.json["tables"].as_array().unwrap() {
            let get = |key: &str| table[key].as_u64().unwrap() as usize;
            let budget = Budget {
                initial: get("b0") as i64,
                target: get("bT") as i64,
                tinit: get("tinit"),
                tfinal: get("tfinal"),
                delta_t: get("deltaT"),
                total: get("total_step"),
            };
            let index = get("index");
            let want = Vec::<i32>::try_from(case.tensor(&format!("budget.{index}"))).unwrap();
            let due = Vec::<u8>::try_from(case.tensor(&format!("mask_flag.{index}"))).unwrap();
            assert_eq!(want.len(), budget.total);
            for t in 0..budget.total {
                assert_eq!(budget.at(t), i64::from(want[t]), "table {index}: b({t})");
                assert_eq!(budget.masks_at(t), due[t] == 1, "table {index}: masking at {t}");
            }
            let phases: Vec<Phase> = (0..budget.total).map(|t| budget.phase(t)).collect();
            assert!(phases.windows(2).all(|p| p[0] as u8 <= p[1] as u8), "phases only go forward");
        }
    }
}

/// One masking from given averages, ties included (b6).
#[test]
fn masking_is_the_released_masking() {
    for case in cases("b6") {
        for row in case.json["rows"].as_array().unwrap() {
            let index = row["index"].as_u64().unwrap();
            let (r, budget) = (row["r"].as_i64().unwrap(), row["budget"].as_i64().unwrap());
            mask_once(&case, index, r, budget);
        }
    }
}

fn mask_once(case: &Case, index: u64, r: i64, budget: i64) {
    let names: Vec<String> =
        (0..).map(|i| format!("m{i}")).take_while(|m| case.has(&format!("{index}.before.{m}.lora_A"))).collect();
    let tensor =
        |what: &str, module: &str, letter: &str| case.tensor(&format!("{index}.{what}.{module}.lora_{letter}"));
    let module = |(i, module): (usize, &String)| TargetModule {
        index: i,
        path: module.clone(),
        kind: ModuleKind::Output,
        layer: i,
        d_in: tensor("before", module, "A").size()[1],
        d_out: tensor("before", module, "B").size()[0],
        weight: i,
    };
    let modules: Vec<TargetModule> = names.iter().enumerate().map(module).collect();
    let schedule = LinearSchedule { warmup: 0, total: 10, ..LinearSchedule::default() };
    let protocol = OptimConfig {
        lr: 0.1,
        weight_decay: 0.0,
        decay_order: DecayOrder::Before,
        max_grad_norm: 1.0,
        steps: 10,
        schedule,
        gate_schedule: schedule,
    };
    let build = || {
        let options = AdaLoraOptions { init_r: r, target_r: 1, ..AdaLoraOptions::default() };
        let context = Context {
            target_modules: &modules,
            backbone: &[],
            components: &PrincipalComponents::default(),
            protocol: &protocol,
            hidden_size: 0,
            seed: 0,
        };
        let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
        let method = AdaLora::new(options, &context, &mut params).unwrap();
        (method, params.finish())
    };
    let fill = |method: &AdaLora, params: &Params, what: &str| {
        tch::no_grad(|| {
            for (adapter, module) in method.adapters(&params.views()).modules.iter_mut().flatten().zip(&names) {
                adapter.a.copy_(&tensor(what, module, "A"));
                adapter.b.copy_(&tensor(what, module, "B"));
                let values = adapter.gate.as_mut().unwrap();
                values.copy_(&tensor(what, module, "E").view(-1));
            }
        });
    };
    let (mut method, params) = build();
    for (name, what) in [("average", "exp_avg_ipt"), ("uncertainty", "exp_avg_unc")] {
        let (twin, twin_params) = build();
        fill(&twin, &twin_params, what);
        let flat: Tensor = twin_params.groups()[0].flat.detach();
        method.load(name, &flat).unwrap();
    }
    fill(&method, &params, "before");
    let kept = tch::no_grad(|| {
        let kept = method.kept_components(&method.scores(&params), budget);
        method.mask(&params, &kept);
        kept
    });
    let left = case.json["rows"][index as usize]["left_after_masking"].as_i64().unwrap();
    assert_eq!(kept.sum(Kind::Int64).int64_value(&[]), left, "row {index}: components left");
    let adapters = tch::no_grad(|| method.adapters(&params.views()));
    for (adapter, module) in adapters.modules.iter().flatten().zip(&names) {
        let want = tensor("after", module, "E").view(-1);
        assert_eq!(adapter.gate.as_ref().unwrap(), &want, "row {index}: E of {module}");
    }
}
