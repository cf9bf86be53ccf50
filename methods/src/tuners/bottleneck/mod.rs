//! Bottleneck adapters (Houlsby et al. 2019; the table's row "Adapter", spec §1.5): `y + U f(D y + d) + u` after a linear.

use std::collections::BTreeMap;

use encoders::{Attach, ModuleKind, TargetModule};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::adapter::counts::Counts;
use crate::bound::Bound;
use crate::error::Result;
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};
use crate::options::{Options, resolve_with};
use crate::peft::format::TrainedAdapter;
use crate::tuners::bottleneck::file::{BottleneckAdapter, Bottlenecks, FORMAT, PARTS};

pub mod file;

/// Where the adapters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Two a layer: after the attention's output projection and after the second feed-forward linear, each before the
    /// residual (Houlsby et al. 2019).
    Houlsby,
    /// One a layer: after the second feed-forward linear, before the residual (Pfeiffer et al. 2021).
    Pfeiffer,
}

/// Options of the bottleneck adapter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BottleneckOptions {
    /// Width b.
    pub width: i64,
    /// Where the adapters are.
    pub placement: Placement,
}

impl Default for BottleneckOptions {
    /// b = 16, twice a layer: the release's script (spec §4.5).
    fn default() -> Self {
        BottleneckOptions { width: 16, placement: Placement::Houlsby }
    }
}

impl Options for BottleneckOptions {
    fn bounds(&self) -> Vec<Bound> {
        vec![Bound::rank("width", self.width)]
    }
}

/// Parameters of one module's adapter.
#[derive(Clone, Copy)]
struct Slots {
    down: ParamId,
    down_bias: ParamId,
    up: ParamId,
    up_bias: ParamId,
}

/// A bottleneck after the output linears.
pub struct Bottleneck {
    modules: Vec<(TargetModule, Slots)>,
    count: i64,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "adapter",
    title: "Adapter",
    stacking: Stacking::Alone,
    phase_options: &[],
    final_budget_step: None,
    format: &FORMAT,
    examples: &["placement = 'pfeiffer'"],
    resolve: resolve_with::<BottleneckOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, Bottleneck::new),
};

/// Standard deviation of D's start values.
const DOWN_STD: f64 = 0.02;

impl Bottleneck {
    /// Adds the start values: D ~ N(0, 0.02²); U and both biases 0, so that nothing is added at step 0.
    ///
    /// # Errors
    /// A width out of bounds.
    pub fn new(options: BottleneckOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let BottleneckOptions { width, placement } = options;
        let is_adapted = |module: &&TargetModule| match placement {
            Placement::Houlsby => matches!(module.kind, ModuleKind::AttentionOutput | ModuleKind::Output),
            Placement::Pfeiffer => module.kind == ModuleKind::Output,
        };
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut add = |module: &TargetModule| {
            let name = |part: usize| format!("{}.{}", module.path, PARTS[part]);
            let down = Tensor::randn([width, module.d_out], (Kind::Float, Device::Cpu)) * DOWN_STD;
            let slots = Slots {
                down: params.add(ParamGroup::DECAYED, name(0), &down),
                down_bias: params.add(ParamGroup::UNDECAYED, name(1), &zeros(&[width])),
                up: params.add(ParamGroup::DECAYED, name(2), &zeros(&[module.d_out, width])),
                up_bias: params.add(ParamGroup::UNDECAYED, name(3), &zeros(&[module.d_out])),
            };
            (module.clone(), slots)
        };
        let modules: Vec<_> = context.target_modules.iter().filter(is_adapted).map(&mut add).collect();
        let count = modules.iter().map(|(module, _)| 2 * module.d_out * width + width + module.d_out).sum();
        Ok(Bottleneck { modules, count })
    }
}

impl Slots {
    fn all(self) -> [ParamId; 4] {
        [self.down, self.down_bias, self.up, self.up_bias]
    }
}

impl Method for Bottleneck {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn attach(&self, views: &ParamViews) -> Box<dyn Attach> {
        let last = self.modules.iter().map(|(module, _)| module.index + 1).max().unwrap_or(0);
        let mut attached: Vec<Option<[Tensor; 4]>> = (0..last).map(|_| None).collect();
        for (module, slots) in &self.modules {
            attached[module.index] = Some(slots.all().map(|slot| views.get(slot).shallow_clone()));
        }
        Box::new(Bottlenecks(attached))
    }

    fn trained(&self, views: &ParamViews, head: BTreeMap<String, Tensor>) -> Box<dyn TrainedAdapter> {
        let of_module = |(module, slots): &(TargetModule, Slots)| {
            let named = PARTS.into_iter().zip(slots.all());
            let named = named.map(|(part, id)| (format!("{}.{part}", module.path), views.get(id).shallow_clone()));
            named.collect::<Vec<_>>()
        };
        let tensors = self.modules.iter().flat_map(of_module).chain(head).collect();
        Box::new(BottleneckAdapter { tensors })
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.count)
    }
}
