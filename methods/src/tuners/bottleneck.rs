//! Bottleneck adapters (Houlsby et al. 2019; the table's row "Adapter", spec §1.5): `y + U f(D y + d) + u` after a linear.

use std::collections::BTreeMap;

use encoders::{Attach, Site, SiteKind};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::adapter::counts::Counts;
use crate::error::Result;
use crate::method::{Context, Method};
use crate::method::{Entry, build_with};
use crate::optim::params::{Builder, GroupKind, Params, Slot, Views};
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

/// Parameters of one site's adapter.
#[derive(Clone, Copy)]
struct Slots {
    down: Slot,
    down_bias: Slot,
    up: Slot,
    up_bias: Slot,
}

/// A bottleneck after the output linears.
pub struct Bottleneck {
    sites: Vec<(Site, Slots)>,
    count: i64,
}

/// The adapters of one step, by site.
pub struct Bottlenecks(Vec<Option<[Tensor; 4]>>);

/// What a site's tensors are called in a file, after the site's path.
const PARTS: [&str; 4] = ["adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias"];

impl Bottlenecks {
    /// Whether a tensor of a file is one of a site's.
    pub fn has_part(site: &Site, name: &str) -> bool {
        name.strip_prefix(&site.path).and_then(|rest| rest.strip_prefix('.')).is_some_and(|part| PARTS.contains(&part))
    }

    /// Holds the tensors of a file against the sites: where a site has one part it has all four, of one width.
    ///
    /// # Errors
    /// The first part that is missing or of another shape; no part at all.
    pub fn check_whole(sites: &[Site], stored: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
        let mut found = false;
        for site in sites {
            let part = |part: &str| stored.get(&format!("{}.{part}", site.path)).map(Tensor::size);
            let parts = PARTS.map(part);
            if parts.iter().all(Option::is_none) {
                continue;
            }
            found = true;
            let width = parts[1].as_ref().and_then(|size| size.first().copied()).unwrap_or(0);
            let expected = [vec![width, site.d_out], vec![width], vec![site.d_out, width], vec![site.d_out]];
            for ((part, size), expected) in PARTS.iter().zip(parts).zip(expected) {
                if size.as_ref() != Some(&expected) {
                    let size = size.map_or("missing".into(), |size| format!("{size:?}"));
                    return Err(format!("{}.{part} is {size}, expected {expected:?}", site.path));
                }
            }
        }
        if found { Ok(()) } else { Err("it has no bottleneck of any site; save the adapter again".into()) }
    }

    /// From the tensors of a file, by name; a site without all four gets none.
    pub fn read(sites: &[Site], stored: &BTreeMap<String, Tensor>) -> Self {
        let at = |site: &Site| {
            let part = |part: &str| stored.get(&format!("{}.{part}", site.path)).map(Tensor::shallow_clone);
            let [down, down_bias, up, up_bias] = PARTS.map(part);
            Some([down?, down_bias?, up?, up_bias?])
        };
        Bottlenecks(sites.iter().map(at).collect())
    }
}

/// Registry line.
pub static ENTRY: Entry = Entry {
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
    pub fn new(options: BottleneckOptions, context: &Context, params: &mut Builder) -> Result<Self> {
        let BottleneckOptions { width, placement } = options;
        let is_adapted = |site: &&Site| match placement {
            Placement::Houlsby => matches!(site.kind, SiteKind::AttentionOutput | SiteKind::Output),
            Placement::Pfeiffer => site.kind == SiteKind::Output,
        };
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut add = |site: &Site| {
            let name = |part: usize| format!("{}.{}", site.path, PARTS[part]);
            let down = Tensor::randn([width, site.d_out], (Kind::Float, Device::Cpu)) * DOWN_STD;
            let slots = Slots {
                down: params.add(GroupKind::Decayed, name(0), &down),
                down_bias: params.add(GroupKind::Undecayed, name(1), &zeros(&[width])),
                up: params.add(GroupKind::Decayed, name(2), &zeros(&[site.d_out, width])),
                up_bias: params.add(GroupKind::Undecayed, name(3), &zeros(&[site.d_out])),
            };
            (site.clone(), slots)
        };
        let sites: Vec<_> = context.sites.iter().filter(is_adapted).map(&mut add).collect();
        let count = sites.iter().map(|(site, _)| 2 * site.d_out * width + width + site.d_out).sum();
        Ok(Bottleneck { sites, count })
    }
}

impl Slots {
    fn all(self) -> [Slot; 4] {
        [self.down, self.down_bias, self.up, self.up_bias]
    }
}

impl Attach for Bottlenecks {
    fn output(&self, site: &Site, _x: &Tensor, y: Tensor) -> Tensor {
        let Some(Some([down, down_bias, up, up_bias])) = self.0.get(site.index) else { return y };
        let inner = y.linear(down, Some(down_bias)).gelu("tanh");
        y + inner.linear(up, Some(up_bias))
    }
}

impl Method for Bottleneck {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn attach(&self, views: &Views) -> Box<dyn Attach> {
        let last = self.sites.iter().map(|(site, _)| site.index + 1).max().unwrap_or(0);
        let mut attached: Vec<Option<[Tensor; 4]>> = (0..last).map(|_| None).collect();
        for (site, slots) in &self.sites {
            attached[site.index] = Some(slots.all().map(|slot| views.get(slot).shallow_clone()));
        }
        Box::new(Bottlenecks(attached))
    }

    fn tensors(&self, views: &Views) -> Vec<(String, Tensor)> {
        let of_site = |(site, slots): &(Site, Slots)| {
            let named = PARTS.into_iter().zip(slots.all());
            let named = named.map(|(part, slot)| (format!("{}.{part}", site.path), views.get(slot).shallow_clone()));
            named.collect::<Vec<_>>()
        };
        self.sites.iter().flat_map(of_site).collect()
    }

    fn file_kind(&self) -> &'static str {
        "BOTTLENECK"
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.count)
    }
}
