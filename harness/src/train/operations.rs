//! Floating-point operations of training steps, counted by formula. A multiplication and an addition are two.

use std::collections::BTreeSet;

use encoders::EncoderInfo;
use methods::TrainState;

/// A linear of the backbone, `[d_out, d_in]`.
struct Linear {
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
/// - a linear takes `4 T d_in d_out`, forward and to its input, and `6 T d_in d_out` where its weight is trained;
/// - its branch of rank r takes `6 T r (d_in + d_out)`;
/// - attention in a layer of width h takes `12 h` times the sum of the squared lengths: two products forward, four back.
///
/// Position terms, norms, activations, embeddings, the head and the optimisers are left out.
pub fn operations(info: &EncoderInfo, state: &TrainState, lengths: &[usize]) -> f64 {
    let (method, views) = (state.method(), state.params().views());
    let (adapters, attached) = (method.adapters(&views), method.attach(&views));
    let linear = |module: &encoders::TargetModule| {
        let adapter = adapters.modules.get(module.index).and_then(Option::as_ref);
        Linear {
            product: (module.d_in * module.d_out) as f64,
            widths: (module.d_in + module.d_out) as f64,
            rank: adapter.map_or(0.0, |adapter| adapter.a.size()[0] as f64),
            is_trained: attached.weight(module.weight).is_some(),
        }
    };
    let linears: Vec<Linear> = info.target_modules.iter().map(linear).collect();
    let layers = info.target_modules.iter().map(|module| module.layer).collect::<BTreeSet<_>>().len();
    counted(&linears, layers as f64 * info.hidden_size as f64, lengths)
}

/// `attended` is the number of layers times their width.
fn counted(linears: &[Linear], attended: f64, lengths: &[usize]) -> f64 {
    let tokens: f64 = lengths.iter().map(|length| *length as f64).sum();
    let squares: f64 = lengths.iter().map(|length| (*length as f64).powi(2)).sum();
    let of_linear = |linear: &Linear| {
        let passes = if linear.is_trained { 6.0 } else { 4.0 };
        passes * linear.product + 6.0 * linear.rank * linear.widths
    };
    tokens * linears.iter().map(of_linear).sum::<f64>() + 12.0 * attended * squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_formula() {
        let linear = |rank, is_trained| Linear { product: 12.0, widths: 7.0, rank, is_trained };
        // 5 tokens; 3² + 2² = 13.
        assert_eq!(counted(&[linear(0.0, false)], 0.0, &[3, 2]), 5.0 * 48.0);
        assert_eq!(counted(&[linear(2.0, false)], 0.0, &[3, 2]), 5.0 * (48.0 + 84.0));
        assert_eq!(counted(&[linear(0.0, true)], 0.0, &[3, 2]), 5.0 * 72.0);
        assert_eq!(counted(&[], 8.0, &[3, 2]), 12.0 * 8.0 * 13.0);
    }
}
