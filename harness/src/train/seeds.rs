//! Named random streams from one master seed (DESIGN §6), so that two methods of one seed see the same data order and
//! the same head.

use sha2::{Digest, Sha256};

/// The streams of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// Start values of new head tensors.
    pub head: i64,
    /// Start values of adapters.
    pub adapter: i64,
    /// Dropout masks.
    pub dropout: i64,
    master: u64,
}

impl Seeds {
    /// All streams of a master seed.
    pub fn of(master: u64) -> Self {
        Seeds {
            head: stream(master, "head"),
            adapter: stream(master, "adapter"),
            dropout: stream(master, "dropout"),
            master,
        }
    }

    /// Data order of an epoch, from 1.
    pub fn order(&self, epoch: usize) -> u64 {
        stream(self.master, &format!("order {epoch}")) as u64
    }
}

/// The first 8 bytes of the sha256 of seed and name, without the sign bit.
fn stream(master: u64, name: &str) -> i64 {
    let digest = Sha256::digest(format!("rankbench {master} {name}"));
    let bytes = digest.iter().take(8).fold(0u64, |value, &byte| (value << 8) | u64::from(byte));
    (bytes >> 1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_name_and_seed_and_never_change() {
        let (zero, one) = (Seeds::of(0), Seeds::of(1));
        let all = [zero.head, zero.adapter, zero.dropout, one.head, zero.order(1) as i64, zero.order(2) as i64];
        let distinct: std::collections::BTreeSet<i64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(zero, Seeds::of(0));
    }
}
