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
    ///
    /// Below 300 by the product of uniforms, above by Hörmann's transformed rejection (PTRS,
    /// Insurance: Mathematics and Economics 12, 1993): exact, at a price that does not grow.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if !(mean > 0.0 && mean.is_finite()) {
            return 0;
        }
        if mean >= 300.0 {
            return self.many_poisson(mean);
        }
        let (target, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > target {
            count += 1;
            product *= self.unit();
        }
        count
    }

    fn many_poisson(&mut self, mean: f64) -> u64 {
        let (root, ln_mean) = (mean.sqrt(), mean.ln());
        let b = 0.931 + 2.53 * root;
        let a = -0.059 + 0.024_83 * b;
        let scale = 1.1239 + 1.1328 / (b - 3.4);
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let us = 0.5 - u.abs();
            let count = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2.0) {
                return count as u64;
            }
            if count < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            let bound = count * ln_mean - mean - ln_factorial(count);
            if (v * scale / (a / (us * us) + b)).ln() <= bound {
                return count as u64;
            }
        }
    }

    /// How many of `trials` succeed, each with this probability; one that is not a probability
    /// counts as 0 or 1, whichever is nearer, and NaN as 0.
    ///
    /// By inversion where few are expected, otherwise by transformed rejection (BTRS; W. Hörmann,
    /// Journal of Statistical Computation and Simulation 46, 1993): exact either way.
    pub fn binomial(&mut self, trials: u64, probability: f64) -> u64 {
        if trials == 0 || probability.is_nan() || probability <= 0.0 {
            return 0;
        }
        if probability >= 1.0 {
            return trials;
        }
        if probability > 0.5 {
            return trials - self.binomial(trials, 1.0 - probability);
        }
        if trials as f64 * probability < 10.0 {
            self.few_successes(trials, probability)
        } else {
            self.many_successes(trials, probability)
        }
    }

    fn few_successes(&mut self, trials: u64, probability: f64) -> u64 {
        let odds = probability / (1.0 - probability);
        let mut chance = (trials as f64 * (-probability).ln_1p()).exp();
        let (mut left, mut count) = (self.unit(), 0);
        // Beyond 120, where ten are expected at most, no double holds what is left.
        while left > chance && count < trials.min(120) {
            left -= chance;
            count += 1;
            chance *= odds * (trials - count + 1) as f64 / count as f64;
        }
        count
    }

    fn many_successes(&mut self, trials: u64, probability: f64) -> u64 {
        let n = trials as f64;
        let deviation = (n * probability * (1.0 - probability)).sqrt();
        let b = 1.15 + 2.53 * deviation;
        let a = -0.0873 + 0.0248 * b + 0.01 * probability;
        let (middle, mode) = (n * probability + 0.5, ((n + 1.0) * probability).floor());
        let rim = 0.92 - 4.2 / b;
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let us = 0.5 - u.abs();
            let count = ((2.0 * a / us + b) * u + middle).floor();
            if us >= 0.07 && v <= rim {
                return count as u64;
            }
            if !(0.0..=n).contains(&count) {
                continue;
            }
            let scale = (2.83 + 5.1 / b) * deviation;
            let ln_odds = (probability / (1.0 - probability)).ln();
            let bound = ln_factorial(mode) + ln_factorial(n - mode)
                - ln_factorial(count)
                - ln_factorial(n - count)
                + (count - mode) * ln_odds;
            if (v * scale / (a / (us * us) + b)).ln() <= bound {
                return count as u64;
            }
        }
    }

    /// A gamma number of this shape (positive) and scale 1; 0 for a shape that is not.
    ///
    /// Source: Marsaglia & Tsang, ACM Transactions on Mathematical Software 26 (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if !(shape > 0.0 && shape.is_finite()) {
            return 0.0;
        }
        if shape < 1.0 {
            let lift = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * lift;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
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

/// `ln n!` of a whole number that is not negative, by Stirling's series from ten on.
fn ln_factorial(n: f64) -> f64 {
    if n < SMALL.len() as f64 {
        return SMALL[n as usize];
    }
    let (m, inverse) = (n + 1.0, 1.0 / (n + 1.0));
    let square = inverse * inverse;
    (m - 0.5) * m.ln() - m
        + LN_ROOT_TAU
        + inverse
            * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))
}

/// `ln √2π`.
const LN_ROOT_TAU: f64 = 0.918_938_533_204_672_7;

/// `ln n!` from 0 to 9.
const SMALL: [f64; 10] = [
    0.0,
    0.0,
    std::f64::consts::LN_2,
    1.791_759_469_228_055,
    3.178_053_830_347_945_6,
    4.787_491_742_782_046,
    6.579_251_212_010_101,
    8.525_161_361_065_415,
    10.604_602_902_745_25,
    12.801_827_480_081_469,
];

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

    /// Mean, variance and third central moment of `draws` numbers.
    fn moments(draws: u32, mut draw: impl FnMut() -> f64) -> [f64; 3] {
        let all: Vec<f64> = (0..draws).map(|_| draw()).collect();
        let n = f64::from(draws);
        let mean = all.iter().sum::<f64>() / n;
        let central = |power| all.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
        [mean, central(2), central(3)]
    }

    #[test]
    fn factorials_are_those_of_a_product() {
        let mut sum = 0.0_f64;
        for n in 1..200 {
            sum += f64::from(n).ln();
            assert!((ln_factorial(f64::from(n)) - sum).abs() < 1e-9 * sum.max(1.0), "{n}");
        }
    }

    #[test]
    fn successes_are_binomial_whether_few_or_many() {
        let mut rng = Rng::new(11);
        for (trials, p) in [(20_u64, 0.03), (400, 0.02), (400, 0.05), (5_000, 0.3), (900, 0.97)] {
            let (n, q) = (trials as f64, 1.0 - p);
            let draws = 20_000;
            let [mean, variance, third] = moments(draws, || rng.binomial(trials, p) as f64);
            let sigma = (n * p * q).sqrt();
            // Six standard errors of each moment; the kurtosis is at most 3 + 1/(npq) here.
            let root = f64::from(draws).sqrt();
            let tail = 1.0 / (n * p * q);
            assert!((mean - n * p).abs() < 6.0 * sigma / root, "{trials} {p}: {mean}");
            let error = 6.0 * sigma.powi(2) * (2.0 + tail).sqrt() / root;
            assert!((variance - n * p * q).abs() < error, "{trials} {p}: {variance}");
            let error = 6.0 * sigma.powi(3) * (15.0 + 60.0 * tail).sqrt() / root;
            assert!((third - n * p * q * (q - p)).abs() < error, "{trials} {p}: {third}");
        }
        for probability in [-1.0, 0.0, f64::NAN] {
            assert_eq!(rng.binomial(9, probability), 0);
        }
        assert_eq!((rng.binomial(9, 2.0), rng.binomial(0, 0.5)), (9, 0));
    }

    #[test]
    fn large_counts_and_gamma_numbers_have_the_moments_they_should() {
        let mut rng = Rng::new(12);
        let root = 20_000_f64.sqrt();
        let [mean, variance, _] = moments(20_000, || rng.poisson(5_000.0) as f64);
        assert!((mean - 5_000.0).abs() < 6.0 * 5_000_f64.sqrt() / root, "{mean}");
        assert!((variance - 5_000.0).abs() < 6.0 * 5_000.0 * 2_f64.sqrt() / root, "{variance}");
        for shape in [0.3, 1.0, 40.0_f64] {
            let [mean, variance, _] = moments(20_000, || rng.gamma(shape));
            assert!((mean - shape).abs() < 6.0 * shape.sqrt() / root, "{shape}: {mean}");
            // The fourth central moment of a gamma number is 3a² + 6a.
            let error = 6.0 * (2.0 * shape * shape + 6.0 * shape).sqrt() / root;
            assert!((variance - shape).abs() < error, "{shape}: {variance}");
        }
        assert_eq!((rng.poisson(f64::NAN), rng.poisson(f64::INFINITY)), (0, 0));
    }
}
