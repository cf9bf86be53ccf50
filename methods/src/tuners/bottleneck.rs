//! Bottleneck adapters (Houlsby et al. 2019; the table's row "Adapter", spec §1.5): `y + U f(D y + d) + u` after a linear.

use std::collections::BTreeMap;

use encoders::{Attach, ModuleKind, TargetModule};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::adapter::counts::Counts;
use crate::error::Result;
use crate::method::{Context, Method};
use crate::method::{MethodEntry, build_with};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};
use crate::options::resolve_with;
use crate::options::{Bound, Options};

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

/// The adapters of one step, by module.
pub struct Bottlenecks(Vec<Option<[Tensor; 4]>>);

/// Names of a module's tensors in a file, after the module's path.
const PARTS: [&str; 4] = ["adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias"];

impl Bottlenecks {
    /// Whether a tensor of a file is one of a module's.
    pub fn has_part(module: &TargetModule, name: &str) -> bool {
        name.strip_prefix(&module.path)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|part| PARTS.contains(&part))
    }

    /// Holds the tensors of a file against the modules: where a module has one part it has all four, of one width.
    ///
    /// # Errors
    /// The first part that is missing or of another shape; no part at all.
    pub fn check_whole(modules: &[TargetModule], stored: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
        let mut found = false;
        for module in modules {
            let part = |part: &str| stored.get(&format!("{}.{part}", module.path)).map(Tensor::size);
            let parts = PARTS.map(part);
            if parts.iter().all(Option::is_none) {
                continue;
            }
            found = true;
            let width = parts[1].as_ref().and_then(|size| size.first().copied()).unwrap_or(0);
            let expected = [vec![width, module.d_out], vec![width], vec![module.d_out, width], vec![module.d_out]];
            for ((part, size), expected) in PARTS.iter().zip(parts).zip(expected) {
                if size.as_ref() != Some(&expected) {
                    let size = size.map_or("missing".into(), |size| format!("{size:?}"));
                    return Err(format!("{}.{part} is {size}, expected {expected:?}", module.path));
                }
            }
        }
        if found { Ok(()) } else { Err("it has no bottleneck of any module; save the adapter again".into()) }
    }

    /// From the tensors of a file, by name; a module without all four gets none.
    pub fn read(modules: &[TargetModule], stored: &BTreeMap<String, Tensor>) -> Self {
        let at = |module: &TargetModule| {
            let part = |part: &str| stored.get(&format!("{}.{part}", module.path)).map(Tensor::shallow_clone);
            let [down, down_bias, up, up_bias] = PARTS.map(part);
            Some([down?, down_bias?, up?, up_bias?])
        };
        Bottlenecks(modules.iter().map(at).collect())
    }
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "adapter",
    title: "Adapter",
    is_stackable: false,
    resolve: resolve_with::<BottleneckOptions>,
    build: |options, context, params| build_with("adapter", options, context, params, Bottleneck::new),
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
                down: params.add(ParamGroup::Decayed, name(0), &down),
                down_bias: params.add(ParamGroup::Undecayed, name(1), &zeros(&[width])),
                up: params.add(ParamGroup::Decayed, name(2), &zeros(&[module.d_out, width])),
                up_bias: params.add(ParamGroup::Undecayed, name(3), &zeros(&[module.d_out])),
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

impl Attach for Bottlenecks {
    fn output(&self, module: &TargetModule, _x: &Tensor, y: Tensor) -> Tensor {
        let Some(Some([down, down_bias, up, up_bias])) = self.0.get(module.index) else { return y };
        let inner = y.linear(down, Some(down_bias)).gelu("tanh");
        y + inner.linear(up, Some(up_bias))
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

    fn tensors(&self, views: &ParamViews) -> Vec<(String, Tensor)> {
        let of_site = |(module, slots): &(TargetModule, Slots)| {
            let named = PARTS.into_iter().zip(slots.all());
            let named = named.map(|(part, slot)| (format!("{}.{part}", module.path), views.get(slot).shallow_clone()));
            named.collect::<Vec<_>>()
        };
        self.modules.iter().flat_map(of_site).collect()
    }

    fn file_kind(&self) -> &'static str {
        "BOTTLENECK"
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.count)
    }
}
