//! What every registered method must hold on every registered encoder (DESIGN §4), on a tiny random model. A new method
//! or encoder is picked up from its registry.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use encoders::{Attach, Config, ENCODERS, Encoder, Frozen, Pass, TargetModule, TokenBatch};
use methods::method::MethodEntry;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::{ParamGroup, ParamViews, ParamsBuilder};
use methods::peft::export::Exported;
use methods::registry::METHODS;
use methods::{Context, Counts, LoraLayer, LoraLayers, OptimConfig, TrainState};
use tch::{Device, Kind, Reduction, Tensor};

const ROWS: i64 = 6;
const LENGTH: i64 = 10;
const STEPS: usize = 12;
const TOLERANCE: f64 = 1e-5;
/// Two ways to the same product: MKL rounds by the alignment of what it is given.
const ROUNDING: f64 = 1e-7;

struct Model {
    encoder: Box<dyn Encoder>,
    step: TrainState,
    head: Vec<methods::optim::params::ParamId>,
    title: String,
}

fn protocol() -> OptimConfig {
    let schedule = LinearSchedule { warmup: 0, total: STEPS, ..LinearSchedule::default() };
    OptimConfig {
        lr: 1e-2,
        weight_decay: 0.1,
        decay_order: DecayOrder::After,
        max_grad_norm: 1.0,
        steps: STEPS,
        schedule,
        gate_schedule: schedule,
    }
}

fn model(architecture: &encoders::encoder::EncoderEntry, method: &MethodEntry, seed: i64) -> Model {
    let config = Config::parse(architecture.tiny, Path::new("tiny config")).unwrap();
    let encoder = encoders::random(&config, 7, Device::Cpu, Kind::Float).unwrap();
    let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
    let protocol = protocol();
    let (modules, backbone) = (&encoder.info().target_modules, &encoder.info().weights);
    let context = Context {
        target_modules: modules,
        backbone,
        protocol: &protocol,
        hidden_size: encoder.info().hidden_size,
        seed,
    };
    let options = method.options(&toml::Table::new()).unwrap();
    let built = (method.build)(&options, &context, &mut params).unwrap();
    let head = encoder.new_head(2, 3).params;
    let group = |decayed| if decayed { ParamGroup::Decayed } else { ParamGroup::Undecayed };
    let head = head.iter().map(|p| params.add(group(p.decayed), p.name.as_str(), &p.init)).collect();
    let title = format!("{} on {}", method.name, architecture.model_type);
    Model { encoder, step: TrainState::new(params.finish(), built, &protocol), head, title }
}

/// libtorch has one random generator for the whole process, so tests that draw from it take turns.
fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `check` for every method on every encoder.
fn everywhere(check: impl Fn(Model)) {
    let _alone = alone();
    for encoder in ENCODERS {
        for method in METHODS {
            check(model(encoder, method, 11));
        }
    }
}

fn inputs(encoder: &dyn Encoder) -> TokenBatch {
    tch::manual_seed(5);
    let ids = Tensor::randint(encoder.info().vocab_size - 1, [ROWS, LENGTH], (Kind::Int64, Device::Cpu)) + 1;
    let mask = ids.ones_like();
    let _ = mask.narrow(0, 0, 2).narrow(1, LENGTH - 3, 3).fill_(0);
    TokenBatch { token_type_ids: ids.zeros_like(), input_ids: ids, attention_mask: mask, token_capacity: None }
}

impl Model {
    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.step.method().adapters(views)
    }

    fn attached(&self, views: &ParamViews) -> Box<dyn Attach> {
        self.step.method().attach(views)
    }

    fn exported(&self, views: &ParamViews) -> Exported {
        let slot = |slot: &methods::optim::params::ParamId| {
            (self.step.params().name(*slot).to_string(), views.get(*slot).detach().copy())
        };
        tch::no_grad(|| Exported::new(self.step.method(), views, self.head.iter().map(slot).collect()))
    }

    fn logits(&self, views: &ParamViews, attach: &dyn Attach) -> Tensor {
        let head: Vec<Tensor> = self.head.iter().map(|slot| views.get(*slot).shallow_clone()).collect();
        let (batch, pass) = (inputs(self.encoder.as_ref()), Pass { attach, dropout: None });
        self.encoder.logits(&self.encoder.last_hidden_state(&batch, pass), &batch, &head, pass)
    }

    fn train_one(&mut self) -> f64 {
        let views = self.step.params().views();
        let logits = self.logits(&views, self.attached(&views).as_ref());
        let labels = Tensor::from_slice(&[0i64, 1, 0, 1, 1, 0]);
        let loss = logits.cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        let (losses, _) = self.step.apply(&loss, &views).unwrap();
        losses.task.double_value(&[])
    }

    fn train(&mut self, steps: usize) {
        for _ in 0..steps {
            self.train_one();
        }
    }
}

fn error(got: &Tensor, want: &Tensor) -> f64 {
    (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn each_site<'a>(
    model: &'a Model,
    adapters: &'a LoraLayers,
) -> impl Iterator<Item = (&'a TargetModule, &'a methods::LoraLayer)> {
    model
        .encoder
        .info()
        .target_modules
        .iter()
        .zip(&adapters.modules)
        .filter_map(|(module, adapter)| Some((module, adapter.as_ref()?)))
}

#[test]
fn at_step_0_nothing_is_added() {
    everywhere(|model| {
        let views = model.step.params().views();
        let adapters = model.adapters(&views);
        for (module, adapter) in each_site(&model, &adapters) {
            assert_eq!(adapter.delta().abs().max().double_value(&[]), 0.0, "{} at {}", model.title, module.path);
        }
        let attached = model.attached(&views);
        let logits = model.logits(&views, attached.as_ref());
        assert!(error(&logits, &model.logits(&views, &Frozen)) <= ROUNDING, "{}", model.title);
    });
}

#[test]
fn gradients_reach_what_is_declared_and_nothing_else() {
    everywhere(|mut model| {
        let before: Vec<(String, Tensor)> =
            model.encoder.info().weights.iter().map(|(name, w)| (name.clone(), w.copy())).collect();
        let groups: Vec<Tensor> = model.step.params().groups().iter().map(|g| g.flat.detach().copy()).collect();
        model.train(4);
        for ((name, was), (_, is)) in before.iter().zip(&model.encoder.info().weights) {
            assert!(!is.requires_grad() && !is.grad().defined(), "{}: {name} is trained", model.title);
            assert_eq!(error(is, was), 0.0, "{}: {name} moved", model.title);
        }
        for (group, was) in model.step.params().groups().iter().zip(groups) {
            assert!(error(&group.flat.detach(), &was) > 0.0, "{}: {} stood still", model.title, group.kind.name());
        }
    });
}

/// Adds up |gradient| by parameter over a few steps: every value that the inputs reach moves the loss.
#[test]
fn every_trained_value_receives_a_gradient() {
    everywhere(|mut model| {
        let zeros = |group: &methods::optim::params::Group| group.flat.detach().zeros_like();
        let mut moved: Vec<Tensor> = model.step.params().groups().iter().map(zeros).collect();
        for _ in 0..4 {
            let views = model.step.params().views();
            let logits = model.logits(&views, model.attached(&views).as_ref());
            let labels = Tensor::from_slice(&[0i64, 1, 0, 1, 1, 0]);
            let loss = logits.cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
            let (total, _) = model.step.loss(&loss, &views);
            total.backward();
            for (sum, group) in moved.iter_mut().zip(model.step.params().groups()) {
                let _ = sum.g_add_(&group.flat.grad().abs());
            }
            let _norm = model.step.update().unwrap();
            model.step.advance();
        }
        // Embeddings of ids, positions and distances that no row has stand still, and softmax cancels a key's bias.
        let is_partly = |name: &str| {
            let is_table = name.contains("_embeddings") || name.contains("embeddings.weight");
            is_table || name.ends_with("key.bias") || name.ends_with("key_proj.bias")
        };
        for (name, kind, range) in model.step.params().places() {
            let at = model.step.params().groups().iter().position(|group| group.kind == kind).unwrap();
            let values = moved[at].narrow(0, range.start, range.end - range.start);
            let least = if is_partly(name) { values.max() } else { values.min() };
            assert!(least.double_value(&[]) > 0.0, "{}: {name} has a value without gradient", model.title);
        }
    });
}

#[test]
fn a_parameter_without_gradient_is_an_error_at_the_first_step() {
    everywhere(|mut model| {
        let views = model.step.params().views();
        // The head's last bias is left out of the loss.
        let mut head: Vec<Tensor> = model.head.iter().map(|slot| views.get(*slot).shallow_clone()).collect();
        let last = head.len() - 1;
        head[last] = head[last].detach();
        let attached = model.attached(&views);
        let pass = Pass { attach: attached.as_ref(), dropout: None };
        let batch = inputs(model.encoder.as_ref());
        let logits = model.encoder.logits(&model.encoder.last_hidden_state(&batch, pass), &batch, &head, pass);
        let message = model.step.apply(&logits.square().sum(Kind::Float), &views).err().unwrap().to_string();
        let name = model.step.params().name(model.head[last]);
        assert!(message.contains(name) && message.contains("no gradient at step 0"), "{}: {message}", model.title);
    });
}

#[test]
fn a_branch_is_the_product_with_delta() {
    everywhere(|mut model| {
        model.train(5);
        let adapters = model.adapters(&model.step.params().views());
        for (module, adapter) in each_site(&model, &adapters) {
            let x = Tensor::randn([3, module.d_in], (Kind::Float, Device::Cpu));
            let product = x.matmul(&adapter.delta().transpose(0, 1));
            assert!(error(&adapter.branch(&x), &product) <= TOLERANCE, "{} at {}", model.title, module.path);
        }
    });
}

#[test]
fn merged_and_unmerged_outputs_agree() {
    everywhere(|mut model| {
        model.train(5);
        let views = model.step.params().views();
        let unmerged = model.logits(&views, model.attached(&views).as_ref());
        let exported = model.exported(&views);
        if exported.kind == "BOTTLENECK" {
            assert!(exported.merged(model.encoder.as_ref()).is_err(), "{}", model.title);
            return;
        }
        let merged = exported.merged(model.encoder.as_ref()).unwrap();
        tch::no_grad(|| {
            for (name, own) in &model.encoder.info().weights {
                own.shallow_clone().copy_(&merged[name]);
            }
        });
        assert!(error(&model.logits(&views, &Frozen), &unmerged) <= TOLERANCE, "{}", model.title);
    });
}

/// What a method without ranks trains.
fn dense_count(model: &Model) -> Option<i64> {
    let weights = &model.encoder.info().weights;
    let count = |is_trained: fn(&str) -> bool| {
        weights.iter().filter(|(name, _)| is_trained(name)).map(|(_, t)| t.numel() as i64).sum()
    };
    match model.step.method().name() {
        "full" => Some(count(|_| true)),
        "bitfit" => Some(count(|name| name.ends_with(".bias"))),
        // Two layers of width 16, two adapters each, b = 16 (spec 1.5).
        "adapter" => Some(2 * 2 * (2 * 16 * 16 + 16 + 16)),
        _ => None,
    }
}

#[test]
fn counts_equal_the_closed_formulas() {
    everywhere(|mut model| {
        let head = model.encoder.new_head(2, 0).params.iter().map(|param| param.init.numel() as i64).sum::<i64>();
        let counts = model.step.method().counts(model.step.params());
        assert_eq!(counts.allocated + head, model.step.params().numel(), "{}", model.title);
        if let Some(count) = dense_count(&model) {
            assert_eq!(counts, Counts::dense(count), "{}", model.title);
            return;
        }
        let adapters = model.adapters(&model.step.params().views());
        let full: i64 = each_site(&model, &adapters).map(|(s, a)| a.a.size()[0] * (s.d_in + s.d_out)).sum();
        let gates: i64 = each_site(&model, &adapters).filter_map(|(_, a)| Some(a.gate.as_ref()?.size()[0])).sum();
        assert_eq!(counts.allocated, full + gates, "{}", model.title);
        model.train(STEPS);
        let adapters = model.adapters(&model.step.params().views());
        let left: i64 = each_site(&model, &adapters).map(|(s, a)| a.rank() * (s.d_in + s.d_out)).sum();
        assert_eq!(model.step.method().counts(model.step.params()).effective, left, "{}", model.title);
    });
}

fn same_state(first: &Model, second: &Model) {
    for ((name, a), (other, b)) in first.step.state().iter().zip(second.step.state()) {
        assert!(*name == other && error(a, &b) == 0.0, "{}: {name} differs by {}", first.title, error(a, &b));
    }
}

#[test]
fn a_saved_state_gives_the_same_next_steps() {
    let _alone = alone();
    for encoder in ENCODERS {
        for method in METHODS {
            let mut first = model(encoder, method, 11);
            first.train(5);
            let state = first.step.state();
            let mut second = model(encoder, method, 12);
            second.step.load(&state).unwrap();
            same_state(&first, &second);
            for step in 5..STEPS {
                assert_eq!(first.train_one(), second.train_one(), "{} at step {step}", first.title);
            }
            same_state(&first, &second);
        }
    }
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

#[test]
fn an_export_reads_back_the_same() {
    everywhere(|mut model| {
        model.train(STEPS);
        let views = model.step.params().views();
        let exported = model.exported(&views);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("adapter_model.safetensors"), exported.weights().unwrap()).unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), exported.config("tiny").to_string()).unwrap();
        let read = Exported::read(dir.path(), model.encoder.as_ref()).unwrap();
        let again = model.logits(&views, read.attach(model.encoder.as_ref()).unwrap().as_ref());
        let logits = model.logits(&views, model.attached(&views).as_ref());
        assert!(error(&again, &logits) <= TOLERANCE, "{}", model.title);
        assert!(error(&again, &model.logits(&views, &Frozen)) > TOLERANCE, "{}: nothing was trained", model.title);
        assert_eq!(read.tensors.keys().collect::<Vec<_>>(), exported.tensors.keys().collect::<Vec<_>>());
    });
}

#[test]
fn an_adapter_whose_gates_are_all_pruned_is_still_one_that_peft_loads() {
    everywhere(|mut model| {
        model.train(2);
        let Some(gates) = model.step.params().group(ParamGroup::Gates) else { return };
        tch::no_grad(|| drop(gates.flat.shallow_clone().zero_()));
        let views = model.step.params().views();
        let exported = model.exported(&views);
        let config = exported.config("tiny");
        assert_eq!(config["target_modules"].as_array().unwrap().len(), 1, "{}: {config}", model.title);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("adapter_model.safetensors"), exported.weights().unwrap()).unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
        let read = Exported::read(dir.path(), model.encoder.as_ref()).unwrap();
        let logits = model.logits(&views, read.attach(model.encoder.as_ref()).unwrap().as_ref());
        assert!(error(&logits, &model.logits(&views, &Frozen)) <= ROUNDING, "{}", model.title);
    });
}

#[test]
fn rank_0_is_legal_everywhere() {
    everywhere(|mut model| {
        model.train(3);
        let views = model.step.params().views();
        let mut adapters = LoraLayers::new(model.adapters(&views).modules);
        for adapter in adapters.modules.iter_mut().flatten() {
            // Methods with a gate reach rank 0 through it, LoRA by having no component.
            let (a, b) = (adapter.a.shallow_clone(), adapter.b.shallow_clone());
            *adapter = match &adapter.gate {
                Some(gate) => LoraLayer::new(a, b, Some(gate.zeros_like()), adapter.scale),
                None => LoraLayer::new(a.narrow(0, 0, 0), b.narrow(1, 0, 0), None, adapter.scale),
            };
            assert_eq!((adapter.rank(), adapter.to_lora().rank()), (0, 0), "{}", model.title);
        }
        let frozen = model.logits(&views, &Frozen);
        assert!(error(&model.logits(&views, &adapters), &frozen) <= ROUNDING, "{}", model.title);
    });
}
