//! The training step: one order of calls for every method, and no host round trip inside it.

use tch::{Device, Tensor};
use torch_ext::autograd::clear_grad;
use torch_ext::ops::adamw::{self, Clipped, Update};

use crate::error::{Error, Result};
use crate::method::Method;
use crate::optim::adamw::AdamW;
use crate::optim::config::OptimConfig;
use crate::optim::params::{ParamViews, Params};
use crate::optim::step_counter::StepCounter;

/// Loss of one step, before its update.
pub struct StepLoss {
    /// Task loss, `[]`.
    pub task: Tensor,
    /// The method's term, `[]`, where it has one.
    pub penalty: Option<Tensor>,
}

/// A part of a step's rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Its share of the step's rows.
    pub share: f64,
    /// Whether it is the first: the method's term counts once a step, with it.
    pub is_first: bool,
}

impl Part {
    /// All rows.
    pub const WHOLE: Part = Part { share: 1.0, is_first: true };
}

impl StepLoss {
    /// This and another part of the step.
    pub fn plus(self, other: Self) -> Self {
        StepLoss { task: self.task + other.task, penalty: self.penalty.or(other.penalty) }
    }

    /// The same tensors.
    pub fn shallow_clone(&self) -> Self {
        StepLoss { task: self.task.shallow_clone(), penalty: self.penalty.as_ref().map(Tensor::shallow_clone) }
    }
}

/// Parameters, method and optimisers of one run.
pub struct TrainState {
    params: Params,
    method: Box<dyn Method>,
    optimizers: Vec<AdamW>,
    max_grad_norm: f64,
    step: StepCounter,
}

impl TrainState {
    /// Makes one optimiser for each parameter group, by the method's rules.
    pub fn new(params: Params, method: Box<dyn Method>, protocol: &OptimConfig) -> Self {
        let optimizers = params
            .groups()
            .iter()
            .map(|group| {
                let rule = method.group_optim(group.kind, protocol);
                AdamW::new(&group.flat, rule.options, protocol.steps, |t| rule.schedule.factor(t))
            })
            .collect();
        let device = params.groups().first().map_or(Device::Cpu, |group| group.flat.device());
        TrainState {
            params,
            method,
            optimizers,
            max_grad_norm: protocol.max_grad_norm,
            step: StepCounter::zero(device),
        }
    }

    /// The trained values.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The method.
    pub fn method(&self) -> &dyn Method {
        self.method.as_ref()
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.step.number
    }

    /// Number of the next step.
    pub fn step(&self) -> &StepCounter {
        &self.step
    }

    /// Phase of the next step: a captured step serves the steps of its phase.
    pub fn phase(&self) -> usize {
        self.method.phase(self.step.number)
    }

    /// A whole step: [`TrainState::loss`], backward, [`TrainState::update`], [`TrainState::advance`]. `views` are the parameters the task loss
    /// was computed with. Gives the gradient norm before clipping, `[]`, still on the device.
    ///
    /// # Errors
    /// Those of [`TrainState::update`]; a loss that cannot be differentiated.
    pub fn apply(&mut self, task: &Tensor, views: &ParamViews) -> Result<(StepLoss, Tensor)> {
        let (total, loss) = self.loss(task, views);
        total.f_backward()?;
        let norm = self.update()?;
        self.advance();
        Ok((loss, norm))
    }

    /// The differentiated loss, `[]`: the task loss and the method's term; and each of the two alone.
    pub fn loss(&self, task: &Tensor, views: &ParamViews) -> (Tensor, StepLoss) {
        self.loss_of(Part::WHOLE, task, views)
    }

    /// [`TrainState::loss`] of a part of the step's rows, whose mean task loss is `task`. The sums over all parts are those of the whole:
    /// gradients add up until [`TrainState::update`].
    pub fn loss_of(&self, part: Part, task: &Tensor, views: &ParamViews) -> (Tensor, StepLoss) {
        self.loss_with(part, task, || self.method.penalty(views))
    }

    /// [`TrainState::loss_of`] with what [`Method::penalty`] gives for this run.
    pub fn loss_with(&self, part: Part, task: &Tensor, penalty: impl FnOnce() -> Option<Tensor>) -> (Tensor, StepLoss) {
        let task = if part.share == 1.0 { task.shallow_clone() } else { task * part.share };
        let weight = self.method.penalty_weight().filter(|_| part.is_first);
        let penalty = weight.and_then(|weight| Some(penalty()? * weight));
        let total = match &penalty {
            Some(penalty) => &task + penalty,
            None => task.shallow_clone(),
        };
        (total, StepLoss { task: task.detach(), penalty: penalty.map(|p| p.detach()) })
    }

    /// [`TrainState::update_all`] for this run alone.
    ///
    /// # Errors
    /// As there.
    pub fn update(&mut self) -> Result<Tensor> {
        let norms = Self::update_all(&mut [self])?;
        Ok(norms.squeeze_dim(0))
    }

    /// Clips, updates, calls [`Method::after_step`] and lets the gradients go, in every run: device work only, so it can be captured
    /// with the backward pass. Norms and updates of all runs are a launch each. Gives every run's gradient norm before clipping,
    /// `[runs]`.
    ///
    /// # Errors
    /// A parameter that the loss does not depend on, at the first step; more steps than planned.
    pub fn update_all(states: &mut [&mut TrainState]) -> Result<Tensor> {
        let clipped = states.iter().map(|state| state.clipped()).collect::<Result<Vec<_>>>()?;
        tch::no_grad(|| {
            let both = adamw::norms_and_factors(&clipped).unbind(1);
            let mut updates = Vec::new();
            for ((state, clipped), factor) in states.iter().zip(clipped).zip(both[1].unbind(0)) {
                updates.extend(state.updates(clipped.grads, &factor)?);
            }
            adamw::apply(&updates)?;
            for state in states {
                state.method.after_step(&state.params, &state.step)?;
                state.clear_gradients();
                state.step.advance_on_device();
            }
            Ok(both[0].shallow_clone())
        })
    }

    /// Gradients of the groups.
    fn clipped(&self) -> Result<Clipped> {
        let no_gradient = |name: String| Err(Error::NoGradient { name, step: self.step.number });
        if let Some(name) = self.params.first_without_gradient() {
            return no_gradient(name.to_string());
        }
        if let Some(group) = self.params.groups().iter().find(|group| !group.flat.grad().defined()) {
            return no_gradient(format!("all of group {}", group.kind.name));
        }
        let grads = self.params.groups().iter().map(|group| group.flat.grad()).collect();
        Ok(Clipped { grads, bound: self.max_grad_norm })
    }

    /// Updates of the groups by their gradients.
    fn updates(&self, grads: Vec<Tensor>, factor: &Tensor) -> Result<Vec<Update>> {
        let groups = self.params.groups().iter().zip(&self.optimizers).zip(grads);
        groups.map(|((group, optimizer), grad)| optimizer.update(&group.flat, grad, factor, &self.step)).collect()
    }

    /// Lets all gradients go: the next backward pass puts its own in their place, and nothing is set to 0 or added to.
    pub fn clear_gradients(&self) {
        self.params.groups().iter().for_each(|group| clear_grad(&group.flat));
    }

    /// Counts a step that was taken.
    pub fn advance(&mut self) {
        self.step.number += 1;
    }

    /// Ends a stage of a schedule with several stages.
    pub fn stage_end(&mut self) {
        self.method.stage_end();
    }

    /// Everything the next step depends on, by name: values, moments, the method's state and the step count.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state: Vec<(String, Tensor)> =
            self.params.state().into_iter().map(|(name, value)| (format!("params.{name}"), value)).collect();
        for (group, optimizer) in self.params.groups().iter().zip(&self.optimizers) {
            let moments = optimizer.state();
            state.extend(moments.map(|(m, value)| (format!("optimizer.{}.{m}", group.kind.name), value.copy())));
        }
        state.extend(self.method.state().into_iter().map(|(name, value)| (format!("method.{name}"), value)));
        state.push(("done".into(), Tensor::from(self.done() as i64)));
        state
    }

    /// Takes back the tensors of [`TrainState::state`].
    ///
    /// # Errors
    /// A tensor that is not this step's.
    pub fn load(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        for (name, value) in state {
            let unknown = || Error::State {
                name: name.clone(),
                expected: "a tensor of this method and these modules".into(),
                got: format!("shape {:?}", value.size()),
            };
            let parts: Vec<&str> = name.split('.').collect();
            let taken = match parts.as_slice() {
                ["done"] => {
                    self.step.set(usize::try_from(i64::try_from(value)?).map_err(|_| unknown())?);
                    true
                }
                ["params", group] => self.params.load(group, value),
                ["optimizer", group, moment] => {
                    let index = self.params.groups().iter().position(|g| g.kind.name == *group);
                    index.is_some_and(|i| self.optimizers[i].load(moment, value))
                }
                ["method", name] => self.method.load(name, value).map(|()| true)?,
                _ => false,
            };
            if !taken {
                return Err(unknown());
            }
        }
        Ok(())
    }
}
