//! The two published permutations that decide which rows are where: PyTorch's and NumPy's, number for number.

/// `torch.randperm(n, generator=torch.Generator().manual_seed(seed))` on a CPU (spec §4.1).
///
/// Torch seeds its generator with the low 32 bits of the seed. From 2^32 / 20 rows on it would draw 64 bits a row;
/// no data set here is that long.
pub fn torch_randperm(n: usize, seed: u64) -> Vec<usize> {
    let mut generator = Mt19937::new(seed as u32);
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        let step = generator.next() as usize % (n - i);
        order.swap(i, i + step);
    }
    order
}

/// `numpy.random.default_rng(seed).permutation(n)` (spec §4.1).
pub fn numpy_permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut generator = Pcg64::new(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, generator.up_to(i as u64) as usize);
    }
    order
}

/// Mersenne Twister with 32-bit output (Matsumoto and Nishimura 1998).
struct Mt19937 {
    state: [u32; Self::WORDS],
    position: usize,
}

impl Mt19937 {
    const WORDS: usize = 624;
    const MIDDLE: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::WORDS];
        for i in 1..Self::WORDS {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { state, position: Self::WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.position == Self::WORDS {
            self.twist();
        }
        let mut y = self.state[self.position];
        self.position += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..Self::WORDS {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::WORDS] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::MIDDLE) % Self::WORDS] ^ (joined >> 1) ^ odd;
        }
        self.position = 0;
    }
}

/// NumPy's default generator: PCG XSL-RR 128/64 (O'Neill 2014), seeded through `SeedSequence`.
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The high half of a 64-bit draw whose low half is spent.
    half: Option<u32>,
}

impl Pcg64 {
    const MULTIPLIER: u128 = (2_549_297_995_355_413_924 << 64) | 4_865_540_595_714_422_341;

    fn new(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_words(seed);
        let join = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let mut generator = Pcg64 { state: 0, increment: (join(stream_high, stream_low) << 1) | 1, half: None };
        generator.step();
        generator.state = generator.state.wrapping_add(join(state_high, state_low));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// The low half of a draw, then its high half.
    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let both = self.next_u64();
        self.half = Some((both >> 32) as u32);
        both as u32
    }

    /// A number from 0 to `max`: draws are masked, and drawn again while they are above it.
    fn up_to(&mut self, max: u64) -> u64 {
        let mask = u64::MAX.checked_shr(max.leading_zeros()).unwrap_or(0);
        loop {
            let draw = if max <= u64::from(u32::MAX) { u64::from(self.next_u32()) } else { self.next_u64() };
            if draw & mask <= max {
                return draw & mask;
            }
        }
    }
}

/// `SeedSequence(seed).generate_state(4, numpy.uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    let mut words = [0u32; 8];
    let pool = seed_pool(seed);
    let mut constant = 0x8b51_f9dd_u32;
    for (i, word) in words.iter_mut().enumerate() {
        *word = hash(pool[i % pool.len()], &mut constant, 0x58f3_8ded);
    }
    std::array::from_fn(|i| u64::from(words[2 * i]) | (u64::from(words[2 * i + 1]) << 32))
}

fn seed_pool(seed: u64) -> [u32; 4] {
    const MULTIPLIER: u32 = 0x931e_8875;
    let mut constant = 0x43b0_d7e5;
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash(word, &mut constant, MULTIPLIER));
    for source in 0..pool.len() {
        for target in (0..pool.len()).filter(|&target| target != source) {
            let mixed = hash(pool[source], &mut constant, MULTIPLIER);
            pool[target] = mix(pool[target], mixed);
        }
    }
    pool
}

fn hash(value: u32, constant: &mut u32, multiplier: u32) -> u32 {
    let value = value ^ *constant;
    *constant = constant.wrapping_mul(multiplier);
    let value = value.wrapping_mul(*constant);
    value ^ (value >> 16)
}

fn mix(x: u32, y: u32) -> u32 {
    let mixed = 0xca01_f9dd_u32.wrapping_mul(x).wrapping_sub(0x4973_f715_u32.wrapping_mul(y));
    mixed ^ (mixed >> 16)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn digest(order: &[usize]) -> String {
        let bytes: Vec<u8> = order.iter().flat_map(|&i| (i as u64).to_le_bytes()).collect();
        hex::encode(Sha256::digest(bytes))
    }

    /// `torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist()`, torch 2.11.0.
    #[test]
    fn torch_order_of_ten() {
        let expected: [(u64, [usize; 10]); 8] = [
            (0, [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]),
            (1, [5, 6, 1, 2, 0, 8, 9, 3, 7, 4]),
            (42, [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]),
            (1 << 32, [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]),
            ((1 << 32) + 42, [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]),
            ((1 << 63) + 7, [5, 0, 3, 4, 1, 7, 9, 6, 8, 2]),
            (0xDEAD_BEEF_CAFE_F00D, [8, 7, 9, 0, 5, 6, 4, 3, 2, 1]),
            (u64::MAX, [1, 4, 6, 2, 0, 5, 8, 7, 9, 3]),
        ];
        for (seed, order) in expected {
            assert_eq!(torch_randperm(10, seed), order, "seed {seed}");
        }
    }

    /// More draws than the twister's state has words; the digest is of the int64 little-endian bytes.
    #[test]
    fn torch_order_of_seven_hundred() {
        let order = torch_randperm(700, 12_345_678_901_234_567);
        assert_eq!(digest(&order), "3895a1bc518f63c1b4790ced4c3bbaa01298bd3909fee5c97bf3043d01ba8837");
    }

    #[test]
    fn short_orders() {
        for permutation in [torch_randperm, numpy_permutation] {
            assert_eq!(permutation(0, 1), Vec::<usize>::new());
            assert_eq!(permutation(1, 0), [0]);
        }
        assert_eq!(torch_randperm(2, 3), [0, 1]);
        assert_eq!(numpy_permutation(2, 7), [0, 1]);
    }

    /// `numpy.random.default_rng(seed).permutation(n).tolist()`, NumPy 2.4.6.
    #[test]
    fn numpy_order_of_ten() {
        let expected: [(u64, [usize; 10]); 4] = [
            (0, [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]),
            (42, [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]),
            ((1 << 40) + 3, [2, 4, 6, 5, 7, 9, 0, 3, 8, 1]),
            (u64::MAX, [8, 7, 3, 0, 4, 6, 1, 2, 5, 9]),
        ];
        for (seed, order) in expected {
            assert_eq!(numpy_permutation(10, seed), order, "seed {seed}");
        }
        assert_eq!(numpy_permutation(5, 1 << 32), [1, 4, 3, 0, 2]);
    }

    /// Above 16 bits, so that all masks up to 17 bits are used.
    #[test]
    fn numpy_order_of_seventy_thousand() {
        let order = numpy_permutation(70_000, 1);
        assert_eq!(digest(&order), "a444ee2f92e82efa67bda50cd9c30a3df25cbea08cd07e29290b5e53dde6ff75");
    }

    /// Rows, a seed of 64 bits, and how the digests of torch's and NumPy's orders begin (torch 2.11.0, NumPy 2.4.6).
    #[test]
    fn orders_of_large_seeds() {
        let expected: [(usize, u64, &str, &str); 8] = [
            (3, 8_589_221_953_160_678_911, "b3db6650e4598ca5", "53afea624a503a0b"),
            (17, 11_398_726_226_450_727_658, "907fdf7efb561c88", "e007adc75f5f3da1"),
            (100, 16_001_795_929_641_688_097, "ef82eed8db3f3136", "2161cad8d0a5bdcd"),
            (623, 956_523_682_424_107_605, "8ba92daa63810a1c", "2de9bc0a42b82af1"),
            (624, 6_613_812_840_851_947_673, "9cf11d625633faa2", "597d8d287ca3896a"),
            (5000, 14_055_043_351_701_082_718, "a7497f2635abc004", "15f629d356cc3d95"),
            (65_536, 4_548_465_924_626_346_240, "31a9e52c38d06dd6", "ea1db75da0ec2993"),
            (65_536, 2_439_413_297_207_794_790, "b4f5715bfdb330c4", "c1e3e25938177e27"),
        ];
        for (n, seed, torch, numpy) in expected {
            assert_eq!(digest(&torch_randperm(n, seed))[..16], *torch, "{n} rows, seed {seed}");
            assert_eq!(digest(&numpy_permutation(n, seed))[..16], *numpy, "{n} rows, seed {seed}");
        }
    }

    /// Starts of the permutations of spec §4.1.
    #[test]
    fn orders_of_the_splits() {
        let torch: [(usize, [usize; 5]); 9] = [
            (277, [207, 84, 253, 243, 190]),
            (408, [30, 63, 342, 322, 6]),
            (1043, [911, 408, 813, 657, 710]),
            (1500, [42, 340, 1028, 766, 1150]),
            (9815, [8117, 4924, 9261, 1689, 4135]),
            (9832, [4358, 6885, 3178, 2922, 1282]),
            (67_349, [6677, 49_712, 38_268, 32_909, 23_395]),
            (104_743, [99_291, 42_864, 63_734, 96_877, 44_206]),
            (363_846, [74_376, 255_378, 229_510, 126_322, 295_150]),
        ];
        for (n, start) in torch {
            assert_eq!(torch_randperm(n, 42)[..5], start, "{n} rows");
        }
        let numpy: [(usize, [usize; 3]); 4] = [
            (2490, [1913, 795, 1455]),
            (3668, [3550, 3311, 3524]),
            (8551, [1792, 7950, 5436]),
            (5749, [3883, 5228, 5193]),
        ];
        for (n, start) in numpy {
            assert_eq!(numpy_permutation(n, 42)[..3], start, "{n} rows");
        }
    }
}
