//! The generators' own randomness: small, fixed for ever, independent of any library's version.

/// Version of the generators; part of every seed, so that another version is other data throughout.
pub const VERSION: u32 = 1;

/// SplitMix64 (Steele, Lea and Flood 2014) and the draws the grammars need.
pub(super) struct Draw {
    state: u64,
    set: Set,
}

/// Which set is being drawn. Training never sees the last fifth of a word list; MNLI's mismatched set has its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Train,
    Dev,
    Mismatched,
}

impl Draw {
    /// A stream of its own for a task's set.
    pub(super) fn new(task: &str, set: Set) -> Self {
        let text = format!("{task} {set:?} {}", VERSION);
        // FNV-1a, so that close names give far seeds.
        let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Draw { state: text.bytes().fold(0xcbf2_9ce4_8422_2325, hash), set }
    }

    pub(super) fn set(&self) -> Set {
        self.set
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`; `n` must not be 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// True in `percent` of 100 draws.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a list of forms: every set sees all of them.
    pub(super) fn form<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One of a list of words: training does not see the last fifth.
    pub(super) fn word<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let known = if self.set == Set::Train { list.len() - list.len() / 5 } else { list.len() };
        &list[self.below(known)]
    }

    /// A word other than `not`; the list must hold two different ones among its first four fifths.
    pub(super) fn other<'a, T: PartialEq>(&mut self, list: &'a [T], not: &T) -> &'a T {
        loop {
            let word = self.word(list);
            if word != not {
                return word;
            }
        }
    }

    /// Fisher-Yates.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }
}
