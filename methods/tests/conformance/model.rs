//! A tiny random model that a method adapts.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use encoders::encoder::EncoderEntry;
use encoders::{Attach, Config, ENCODERS, Encoder, Pass, TargetModule, TokenBatch};
use methods::adapter::pissa::PrincipalComponents;
use methods::method::MethodEntry;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::{ParamGroup, ParamId, ParamViews, ParamsBuilder};
use methods::peft::format::TrainedAdapter;
use methods::registry::METHODS;
use methods::{Context, Error, LoraLayer, LoraLayers, OptimConfig, TrainState};
use tch::{Device, Kind, Reduction, Tensor};

/// Rows of the batch.
pub const ROWS: i64 = 6;
const LENGTH: i64 = 10;
/// Steps of a run.
pub const STEPS: usize = 12;

pub struct Model {
    pub encoder: Box<dyn Encoder>,
    pub step: TrainState,
    pub head: Vec<ParamId>,
    pub title: String,
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

/// `None` where the method has nothing to train in this encoder, and says so.
fn model(architecture: &EncoderEntry, method: &MethodEntry, options: &str, seed: i64, kind: Kind) -> Option<Model> {
    let config = Config::parse(architecture.tiny, Path::new("tiny config")).unwrap();
    let encoder = encoders::random(&config, 7, Device::Cpu, kind).unwrap();
    let mut params = ParamsBuilder::new(Device::Cpu, kind);
    let protocol = protocol();
    let (modules, backbone) = (&encoder.info().target_modules, &encoder.info().weights);
    let context = Context {
        target_modules: modules,
        backbone,
        components: &PrincipalComponents::default(),
        protocol: &protocol,
        hidden_size: encoder.info().hidden_size,
        seed,
    };
    let title = format!("{} {{{options}}} on {}", method.name, architecture.model_type);
    let options = method.options(&options.parse().unwrap()).unwrap();
    let built = match method.build(&options, &context, &mut params) {
        Err(Error::DoesNotFit { what: "tensors of the backbone" | "target_modules", .. }) => return None,
        built => built.unwrap_or_else(|e| panic!("{title}: {e}")),
    };
    let head = encoder.new_head(2, 3).params;
    let group = |decayed| if decayed { ParamGroup::DECAYED } else { ParamGroup::UNDECAYED };
    let head = head.iter().map(|p| params.add(group(p.decayed), p.name.as_str(), &p.init)).collect();
    Some(Model { encoder, step: TrainState::new(params.finish(), built, &protocol), head, title })
}

/// libtorch has one random generator for the whole process, so tests that draw from it take turns.
fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `check` for every method on every encoder, with the defaults and with the method's examples of options. The second
/// model differs from the first in its seed.
pub fn everywhere_twice(check: impl Fn(Model, Model)) {
    everywhere_in(Kind::Float, check);
}

/// The same with everything in a kind.
pub fn everywhere_in(kind: Kind, check: impl Fn(Model, Model)) {
    let _alone = alone();
    for method in METHODS {
        let mut checked = 0;
        for encoder in ENCODERS {
            for options in [""].iter().chain(method.examples) {
                let [first, second] = [11, 12].map(|seed| model(encoder, method, options, seed, kind));
                if let (Some(first), Some(second)) = (first, second) {
                    check(first, second);
                    checked += 1;
                }
            }
        }
        assert!(checked > 0, "{} fits no encoder", method.name);
    }
}

/// Calls `check` for every method on every encoder.
pub fn everywhere(check: impl Fn(Model)) {
    everywhere_twice(|model, _| check(model));
}

pub fn inputs(encoder: &dyn Encoder) -> TokenBatch {
    tch::manual_seed(5);
    let ids = Tensor::randint(encoder.info().vocab_size - 1, [ROWS, LENGTH], (Kind::Int64, Device::Cpu)) + 1;
    let mask = ids.ones_like();
    let _ = mask.narrow(0, 0, 2).narrow(1, LENGTH - 3, 3).fill_(0);
    TokenBatch { token_type_ids: ids.zeros_like(), input_ids: ids, attention_mask: mask, token_capacity: None }
}

impl Model {
    pub fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.step.method().adapters(views)
    }

    pub fn attached(&self, views: &ParamViews) -> Box<dyn Attach> {
        self.step.method().attach(views)
    }

    pub fn trained(&self, views: &ParamViews) -> Box<dyn TrainedAdapter> {
        let named = |id: &ParamId| (self.step.params().name(*id).to_string(), views.get(*id).detach().copy());
        tch::no_grad(|| self.step.method().trained(views, self.head.iter().map(named).collect()))
    }

    pub fn head(&self, views: &ParamViews) -> Vec<Tensor> {
        self.head.iter().map(|id| views.get(*id).shallow_clone()).collect()
    }

    pub fn logits(&self, views: &ParamViews, attach: &dyn Attach) -> Tensor {
        self.logits_with(&self.head(views), attach)
    }

    pub fn logits_with(&self, head: &[Tensor], attach: &dyn Attach) -> Tensor {
        let (batch, pass) = (inputs(self.encoder.as_ref()), Pass { attach, dropout: None });
        self.encoder.logits(&self.encoder.last_hidden_state(&batch, pass), &batch, head, pass)
    }

    pub fn train_one(&mut self) -> f64 {
        let views = self.step.params().views();
        let attached = self.step.method().attach_step(&views, self.step.step());
        let loss = task_loss(&self.logits(&views, attached.as_ref()));
        let (losses, _) = self.step.apply(&loss, &views).unwrap();
        losses.task.double_value(&[])
    }

    pub fn train(&mut self, steps: usize) {
        for _ in 0..steps {
            self.train_one();
        }
    }
}

pub fn task_loss(logits: &Tensor) -> Tensor {
    task_loss_of(logits, 0)
}

/// The loss of rows from `first` on.
pub fn task_loss_of(logits: &Tensor, first: i64) -> Tensor {
    let labels = Tensor::from_slice(&[0i64, 1, 0, 1, 1, 0]).narrow(0, first, logits.size()[0]);
    logits.cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, 0.0)
}

pub fn error(got: &Tensor, want: &Tensor) -> f64 {
    (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[])
}

pub fn each_module<'a>(
    model: &'a Model,
    adapters: &'a LoraLayers,
) -> impl Iterator<Item = (&'a TargetModule, &'a LoraLayer)> {
    adapters.attached(&model.encoder.info().target_modules)
}
