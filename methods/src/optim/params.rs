//! Flat parameters (DESIGN "the step is static"): all trained values of a group are one contiguous leaf tensor, and what
//! adapters and head use are views, made once a step: a group is split into the method's part and the head's, a part into its
//! parameters.

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

/// Parameters that are optimised alike. A method with parameters of a third kind has a group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamGroup {
    /// Name in errors and saved states.
    pub name: &'static str,
    /// Whether weight decay applies.
    pub decayed: bool,
}

impl ParamGroup {
    /// Matrices.
    pub const DECAYED: ParamGroup = ParamGroup { name: "decayed", decayed: true };
    /// Biases and weights of LayerNorms.
    pub const UNDECAYED: ParamGroup = ParamGroup { name: "undecayed", decayed: false };
}

/// Which parameter: the index of its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamId(usize);

struct ParamInfo {
    name: String,
    group: ParamGroup,
    shape: Vec<i64>,
    offset: i64,
    len: i64,
    part: usize,
}

/// One contiguous leaf tensor.
pub struct Group {
    /// Its name and decay.
    pub kind: ParamGroup,
    /// All its values, `[n]`, a leaf that requires a gradient.
    pub flat: Tensor,
}

/// Collects start values before they are laid out flat.
pub struct ParamsBuilder {
    device: Device,
    kind: Kind,
    entries: Vec<ParamInfo>,
    values: Vec<Tensor>,
    part: usize,
}

/// Every trained value of a run.
pub struct Params {
    groups: Vec<Group>,
    entries: Vec<ParamInfo>,
    /// Up to the first update.
    watch: RefCell<Option<Watch>>,
}

/// Which parameters the backward passes of the first step have reached.
struct Watch {
    /// By parameter: whether a gradient has reached it.
    reached: Vec<bool>,
    /// Views that no backward pass has gone through yet; they keep their gradients.
    views: Vec<ParamViews>,
}

impl Watch {
    /// Notes what gradients have reached, and lets go the views that hold them: in the groups they are added up.
    fn note(&mut self) {
        let reached = &mut self.reached;
        self.views.retain(|views| {
            let has_gradient: Vec<bool> = views.0.iter().map(|view| view.grad().defined()).collect();
            reached.iter_mut().zip(&has_gradient).for_each(|(reached, has)| *reached |= has);
            !has_gradient.contains(&true)
        });
    }
}

/// The parameters of one step, as views of the flat groups in the graph.
pub struct ParamViews(Vec<Tensor>);

impl ParamsBuilder {
    /// Empty, for parameters of `kind` on `device`.
    pub fn new(device: Device, kind: Kind) -> Self {
        ParamsBuilder { device, kind, entries: Vec::new(), values: Vec::new(), part: 0 }
    }

    /// Adds a tensor with its start value. Within a group, tensors lie in the order they were added.
    pub fn add(&mut self, group: ParamGroup, name: impl Into<String>, init: &Tensor) -> ParamId {
        let len = init.numel() as i64;
        let offset = self.group_len(group);
        self.entries.push(ParamInfo { name: name.into(), group, shape: init.size(), offset, len, part: self.part });
        self.values.push(init.detach().to_device(self.device).to_kind(self.kind).flatten(0, -1));
        ParamId(self.entries.len() - 1)
    }

    /// Ends a part of the parameters: those of the method, of the head. A use of one part has no gradient for another's.
    pub fn end_part(&mut self) {
        self.part += 1;
    }

    /// Kind and device of the parameters.
    pub fn options(&self) -> (Kind, Device) {
        (self.kind, self.device)
    }

    /// Values the group holds so far.
    pub fn group_len(&self, group: ParamGroup) -> i64 {
        self.entries.iter().filter(|e| e.group == group).map(|e| e.len).sum()
    }

    /// Lays the groups out flat: decayed, undecayed, then those of the method. A group without tensors is left out.
    pub fn finish(self) -> Params {
        let mut kinds = vec![ParamGroup::DECAYED, ParamGroup::UNDECAYED];
        for entry in &self.entries {
            if !kinds.contains(&entry.group) {
                kinds.push(entry.group);
            }
        }
        let groups = kinds
            .into_iter()
            .filter_map(|kind| {
                let parts: Vec<&Tensor> =
                    self.entries.iter().zip(&self.values).filter(|(e, _)| e.group == kind).map(|(_, v)| v).collect();
                let flat = (!parts.is_empty()).then(|| Tensor::cat(&parts, 0))?;
                Some(Group { kind, flat: flat.set_requires_grad(true) })
            })
            .collect();
        let watch = Watch { reached: vec![false; self.entries.len()], views: Vec::new() };
        Params { groups, entries: self.entries, watch: RefCell::new(Some(watch)) }
    }
}

impl Params {
    /// Views of every parameter, in the graph when gradients are on.
    pub fn views(&self) -> ParamViews {
        let flats = self.flats();
        self.watched(&[self], self.views_of(&self.parts_of(&flats), |part| part.shallow_clone()))
    }

    /// [`Params::views`] in each of `kinds`: one cast per part of a group, through which the gradient goes back.
    pub fn views_in(&self, kinds: &[Kind]) -> Vec<ParamViews> {
        self.casts_of(&[self], &self.flats(), kinds)
    }

    fn flats(&self) -> Vec<Tensor> {
        self.groups.iter().map(|group| group.flat.shallow_clone()).collect()
    }

    /// Views of the flat groups of `runs` in each of `kinds`.
    fn casts_of(&self, runs: &[&Params], flats: &[Tensor], kinds: &[Kind]) -> Vec<ParamViews> {
        let parts = self.parts_of(flats);
        let of_kind = |kind: &Kind| self.watched(runs, self.views_of(&parts, |part| part.to_kind(*kind)));
        kinds.iter().map(of_kind).collect()
    }

    fn watched(&self, runs: &[&Params], views: ParamViews) -> ParamViews {
        runs.iter().for_each(|run| run.watch(&views));
        views
    }

    /// The parts of flat groups `[.., n]`: which parameters each has, and their values. What no gradient reaches is not added to the
    /// other parts' with a gradient of zeros for each of its parameters.
    fn parts_of(&self, flats: &[Tensor]) -> Vec<(Vec<usize>, Tensor)> {
        let of_group = |(group, flat): (&Group, &Tensor)| {
            let members: Vec<usize> =
                (0..self.entries.len()).filter(|&i| self.entries[i].group == group.kind).collect();
            let is_one_part = |a: &usize, b: &usize| self.entries[*a].part == self.entries[*b].part;
            let parts: Vec<Vec<usize>> = members.chunk_by(is_one_part).map(<[usize]>::to_vec).collect();
            let sizes: Vec<i64> = parts.iter().map(|part| part.iter().map(|&i| self.entries[i].len).sum()).collect();
            parts.into_iter().zip(split(flat, &sizes)).collect::<Vec<_>>()
        };
        self.groups.iter().zip(flats).flat_map(of_group).collect()
    }

    /// Views of every parameter, of a function of the parts' values.
    fn views_of(&self, parts: &[(Vec<usize>, Tensor)], of_part: impl Fn(&Tensor) -> Tensor) -> ParamViews {
        let mut views: Vec<Option<Tensor>> = self.entries.iter().map(|_| None).collect();
        for (members, values) in parts {
            let values = of_part(values);
            let leading = &values.size()[..values.dim() - 1];
            let sizes: Vec<i64> = members.iter().map(|&i| self.entries[i].len).collect();
            for (&i, value) in members.iter().zip(split(&values, &sizes)) {
                views[i] = Some(value.view([leading, &self.entries[i].shape].concat().as_slice()));
            }
        }
        ParamViews(views.into_iter().flatten().collect())
    }

    /// Lets views that are in the graph keep their gradients, up to the first update, and those of the part of the step before go.
    fn watch(&self, views: &ParamViews) {
        let is_in_graph = |view: &Tensor| view.requires_grad();
        let mut watch = self.watch.borrow_mut();
        let Some(watch) = watch.as_mut().filter(|_| views.0.iter().any(is_in_graph)) else { return };
        watch.note();
        // A view that cannot keep its gradient would look like one that gets none: the gradient then tells it as an error.
        views.0.iter().filter(|view| is_in_graph(view)).for_each(|view| drop(torch_ext::autograd::retain_grad(view)));
        watch.views.push(ParamViews(views.0.iter().map(Tensor::shallow_clone).collect()));
    }

    /// The first parameter that no gradient reached in the backward passes of the first step, in any of the views made for it. Nothing
    /// is watched any more: later steps are the same functions of the parameters.
    pub fn first_without_gradient(&self) -> Option<&str> {
        let mut watch = self.watch.take()?;
        watch.note();
        let mut missed = self.entries.iter().zip(watch.reached).filter(|(entry, reached)| entry.len > 0 && !reached);
        missed.next().map(|(entry, _)| entry.name.as_str())
    }

    /// Whether the other's groups hold as large parameters in the same places.
    pub fn is_laid_out_as(&self, other: &Self) -> bool {
        let places = |params: &Self| -> Vec<(usize, ParamGroup, Vec<i64>)> {
            params.entries.iter().map(|entry| (entry.part, entry.group, entry.shape.clone())).collect()
        };
        places(self) == places(other)
    }

    /// The groups that hold something.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a kind, where there is one.
    pub fn group(&self, kind: ParamGroup) -> Option<&Group> {
        self.groups.iter().find(|g| g.kind == kind)
    }

    /// Where a parameter lies in its group.
    pub fn range(&self, slot: ParamId) -> Range<i64> {
        let entry = &self.entries[slot.0];
        entry.offset..entry.offset + entry.len
    }

    /// Name, group and place in it of every parameter.
    pub fn places(&self) -> impl Iterator<Item = (&str, ParamGroup, Range<i64>)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.group, entry.offset..entry.offset + entry.len))
    }

    /// A parameter's values as they stand, in its shape: a view of its group, outside the graph.
    pub fn value(&self, slot: ParamId) -> Option<Tensor> {
        let entry = &self.entries[slot.0];
        let flat = self.group(entry.group)?.flat.detach();
        Some(flat.narrow(0, entry.offset, entry.len).view(entry.shape.as_slice()))
    }

    /// Shape of a parameter.
    pub fn shape(&self, slot: ParamId) -> &[i64] {
        &self.entries[slot.0].shape
    }

    /// Name of a parameter.
    pub fn name(&self, slot: ParamId) -> &str {
        &self.entries[slot.0].name
    }

    /// Trained values in all groups.
    pub fn numel(&self) -> i64 {
        self.entries.iter().map(|e| e.len).sum()
    }

    /// Copies of all flat groups, by group name; [`Params::load`] takes them back.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.groups.iter().map(|g| (g.kind.name.to_string(), g.flat.detach().copy())).collect()
    }

    /// Overwrites a group with a copy made by [`Params::state`]; `false` when there is no such group of that size.
    pub fn load(&self, group: &str, value: &Tensor) -> bool {
        let Some(target) = self.groups.iter().find(|g| g.kind.name == group) else {
            return false;
        };
        if target.flat.size() != value.size() {
            return false;
        }
        tch::no_grad(|| target.flat.shallow_clone().copy_(value));
        true
    }
}

impl ParamViews {
    /// Parameters of runs that are [laid out alike](Params::is_laid_out_as), every view with a dimension of runs in front, in each
    /// of `kinds`: one stack per group, and one cast per part of it.
    pub fn stack(runs: &[&Params], kinds: &[Kind]) -> Vec<ParamViews> {
        let of_group =
            |group: usize| Tensor::stack(&runs.iter().map(|run| &run.groups[group].flat).collect::<Vec<_>>(), 0);
        let flats: Vec<Tensor> = (0..runs[0].groups.len()).map(of_group).collect();
        runs[0].casts_of(runs, &flats, kinds)
    }

    /// The view of one parameter.
    pub fn get(&self, slot: ParamId) -> &Tensor {
        &self.0[slot.0]
    }
}

/// Pieces of the last dimension. The gradient of one piece, the whole, would be a copy.
fn split(x: &Tensor, sizes: &[i64]) -> Vec<Tensor> {
    if sizes.len() == 1 { vec![x.shallow_clone()] } else { x.split_with_sizes(sizes, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_the_parts_of_the_first_step_are_let_go() {
        let mut builder = ParamsBuilder::new(Device::Cpu, Kind::Float);
        let value = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let ids = ["a", "b"].map(|name| builder.add(ParamGroup::DECAYED, name, &value));
        let params = builder.finish();
        for _ in 0..6 {
            let views = params.views();
            let [a, b] = ids.map(|id| views.get(id).square().sum(Kind::Float));
            (a + b).backward();
        }
        let kept = |params: &Params| params.watch.borrow().as_ref().map(|watch| watch.views.len());
        assert_eq!(kept(&params), Some(1), "those of the last part, whose gradients are not looked at yet");
        assert_eq!(params.first_without_gradient(), None);
        assert_eq!(kept(&params), None);
    }

    #[test]
    fn a_parameter_that_one_part_reaches_is_reached_and_another_is_named() {
        let mut builder = ParamsBuilder::new(Device::Cpu, Kind::Float);
        let one = Tensor::ones([1], (Kind::Float, Device::Cpu));
        let ids = ["first", "second", "third"].map(|name| builder.add(ParamGroup::DECAYED, name, &one));
        let params = builder.finish();
        for id in [ids[1], ids[0]] {
            params.views().get(id).sum(Kind::Float).backward();
        }
        assert_eq!(params.first_without_gradient(), Some("third"));
    }
}
