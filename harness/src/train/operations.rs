//! Floating-point operations of training steps, counted by formula. A multiplication and an addition are two.

use std::collections::BTreeSet;

use encoders::{EncoderInfo, ModuleKind, TargetModule};
use methods::TrainState;

/// A linear of the backbone, `[d_out, d_in]`.
struct Linear {
    layer: usize,
    /// Whether its input is its layer's: query, key and value.
    reads_input: bool,
    /// `d_in * d_out`.
    product: f64,
    /// `d_in + d_out`.
    widths: f64,
    /// Rank of its branch, pruned components among them: they are computed; 0 without one.
    rank: f64,
    /// Whether its own weight is trained.
    is_trained: bool,
}

/// Operations of the steps on rows of these lengths, padding not counted. With T tokens in all:
/// - a linear takes `2 T d_in d_out` forward, as much again for the gradient of its input where something before it is trained, and
///   as much again where its weight is;
/// - its branch of rank r takes `6 T r (d_in + d_out)`;
/// - attention in a layer of width h takes `4 h` times the sum of the squared lengths forward, and `8 h` back where its input's gradient
///   is wanted.
///
/// Left out: position terms, norms, activations, embeddings, modules behind a linear (bottleneck adapters), the head, the optimisers.
pub fn operations(info: &EncoderInfo, state: &TrainState, lengths: &[usize]) -> f64 {
    let (method, views) = (state.method(), state.params().views());
    let (adapters, attached) = (method.adapters(&views), method.attach(&views));
    let linear = |module: &TargetModule| {
        let adapter = adapters.modules.get(module.index).and_then(Option::as_ref);
        Linear {
            layer: module.layer,
            reads_input: matches!(
                module.kind,
                ModuleKind::Query | ModuleKind::Key | ModuleKind::Value | ModuleKind::Qkv
            ),
            product: (module.d_in * module.d_out) as f64,
            widths: (module.d_in + module.d_out) as f64,
            rank: adapter.map_or(0.0, |adapter| adapter.a.size()[0] as f64),
            is_trained: attached.weight(module.weight).is_some(),
        }
    };
    let linears: Vec<Linear> = info.target_modules.iter().map(linear).collect();
    // Embeddings, norms and biases come first of all where they are trained, and a bottleneck adapter stands in every layer.
    let trains_weights = (0..info.weights.len()).any(|index| attached.weight(index).is_some());
    let is_branched = |linear: &&Linear| linear.rank > 0.0;
    let first = if trains_weights { None } else { linears.iter().find(is_branched).map(|linear| linear.layer) };
    counted(&linears, first, info.hidden_size as f64, lengths)
}

/// `first` is the first layer with something to train; `None`: before all layers.
fn counted(linears: &[Linear], first: Option<usize>, width: f64, lengths: &[usize]) -> f64 {
    let tokens: f64 = lengths.iter().map(|length| *length as f64).sum();
    let squares: f64 = lengths.iter().map(|length| (*length as f64).powi(2)).sum();
    let of_linear = |linear: &Linear| {
        let wants_input =
            first.is_none_or(|first| linear.layer > first || (linear.layer == first && !linear.reads_input));
        let passes = 2.0 * (1 + u8::from(wants_input) + u8::from(linear.is_trained)) as f64;
        passes * linear.product + 6.0 * linear.rank * linear.widths
    };
    let layers: BTreeSet<usize> = linears.iter().map(|linear| linear.layer).collect();
    let of_layer = |layer: &usize| if first.is_none_or(|first| *layer >= first) { 12.0 } else { 4.0 };
    tokens * linears.iter().map(of_linear).sum::<f64>() + layers.iter().map(of_layer).sum::<f64>() * width * squares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(layer: usize, reads_input: bool, rank: f64, is_trained: bool) -> Linear {
        Linear { layer, reads_input, product: 12.0, widths: 7.0, rank, is_trained }
    }

    /// 5 tokens; 3² + 2² = 13; layers of width 8.
    fn of(linears: &[Linear], first: Option<usize>) -> f64 {
        counted(linears, first, 8.0, &[3, 2])
    }

    #[test]
    fn operations_are_those_of_the_formula() {
        let attention = 12.0 * 8.0 * 13.0;
        assert_eq!(of(&[linear(0, true, 2.0, false)], Some(0)), 5.0 * (24.0 + 84.0) + attention);
        assert_eq!(of(&[linear(0, false, 2.0, false)], Some(0)), 5.0 * (48.0 + 84.0) + attention);
        assert_eq!(of(&[linear(0, true, 0.0, true)], None), 5.0 * 72.0 + attention);
    }

    #[test]
    fn layers_below_the_first_branch_have_no_backward_pass() {
        let both = [linear(0, false, 0.0, false), linear(1, true, 2.0, false)];
        let attention = (4.0 + 12.0) * 8.0 * 13.0;
        assert_eq!(of(&both, Some(1)), 5.0 * (24.0 + 24.0 + 84.0) + attention);
    }
}
