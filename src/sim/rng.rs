//! Chance from a seed: the same numbers on every machine and in every release.
//!
//! Thirty lines rather than a dependency, because a simulation that proves an error rate must give
//! the same count years later.

/// A generator of pseudo-random numbers: `xoshiro256++`, seeded by `SplitMix64`.
///
/// Not for secrets. Source: Blackman & Vigna, ACM Transactions on Mathematical Software 47 (2021).
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator that is determined by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        }))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `[0, 1)`, uniform.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether an event of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A whole number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A standard normal number (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// How many events happen where `mean` are expected; 0 for a mean that is not positive.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let mut left = mean;
        let mut count = 0;
        // The sum of Poisson numbers is one: pieces keep the product below from underflowing.
        while left > 0.0 {
            let piece = left.min(300.0);
            left -= piece;
            let target = (-piece).exp();
            let mut product = self.unit();
            while product > target {
                count += 1;
                product *= self.unit();
            }
        }
        count
    }

    /// How many trials it takes to the first success, where `mean` (at least 1) are expected.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        let mut count = 1;
        while !self.chance(1.0 / mean.max(1.0)) {
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference output of `xoshiro256++` for the state 1, 2, 3, 4, from its authors' program.
    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut rng = Rng([1, 2, 3, 4]);
        let first = [rng.bits(), rng.bits(), rng.bits()];
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn counts_have_the_mean_and_variance_they_should() {
        let mut rng = Rng::new(7);
        let draws: Vec<f64> = (0..4_000).map(|_| rng.poisson(40.0) as f64).collect();
        let mean = draws.iter().sum::<f64>() / 4_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4_000.0;
        // Standard errors 0.1 and 0.9.
        assert!((mean - 40.0).abs() < 0.5 && (variance - 40.0).abs() < 4.5, "{mean} {variance}");
    }
}
