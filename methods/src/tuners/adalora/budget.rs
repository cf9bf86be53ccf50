//! AdaLoRA's budget: how many rank-one components are left at each step (spec §2.4).

/// The cubic budget with its three phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// b(0): all components at the start.
    pub initial: i64,
    /// b(T): components at the end.
    pub target: i64,
    /// Steps before the budget falls, t_i.
    pub tinit: usize,
    /// Steps at the end with the budget fixed, t_f.
    pub tfinal: usize,
    /// Steps between two maskings, ΔT.
    pub delta_t: usize,
    /// Steps of the run, T.
    pub total: usize,
}

/// Where a step lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Full budget, nothing masked.
    Init,
    /// The budget falls; masking every ΔT steps.
    Decrease,
    /// Target budget; masking at every step from frozen scores.
    Final,
}

impl Budget {
    /// Phase of step `t` from 0.
    pub fn phase(&self, t: usize) -> Phase {
        if t <= self.tinit {
            Phase::Init
        } else if t > self.total - self.tfinal {
            Phase::Final
        } else {
            Phase::Decrease
        }
    }

    /// b(t): truncated to an integer as the released code does.
    pub fn at(&self, t: usize) -> i64 {
        match self.phase(t) {
            Phase::Init => self.initial,
            Phase::Final => self.target,
            Phase::Decrease => {
                let done = (t - self.tinit) as f64 / (self.total - self.tfinal - self.tinit) as f64;
                let left = (self.initial - self.target) as f64 * (1.0 - done).powf(3.0);
                (self.target as f64 + left) as i64
            }
        }
    }

    /// Whether components are masked at step `t`.
    pub fn masks_at(&self, t: usize) -> bool {
        match self.phase(t) {
            Phase::Init => false,
            Phase::Final => true,
            Phase::Decrease => t.is_multiple_of(self.delta_t),
        }
    }

    /// Whether the importance averages take part in step `t`.
    pub fn scores_at(&self, t: usize) -> bool {
        t < self.total - self.tfinal
    }
}
