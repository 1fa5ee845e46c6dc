//! How far a sample's distribution function strays from the true one (Kolmogorov).
//!
//! No single formula is both exact and quick. Where one direction decides, twice the one-sided
//! tail is exact; otherwise a power of a matrix is, up to 140 values; beyond, an expansion whose
//! error is about 1e-6. The cuts between them are Simard and L'Ecuyer's, as in other libraries.
//!
//! Source: G. Marsaglia, W. W. Tsang and J. Wang, J. Statistical Software 8 (2003), 18; W. Pelz
//! and I. J. Good, J. Royal Statistical Society B 38 (1976), 152-156; R. Simard and P. L'Ecuyer,
//! J. Statistical Software 39 (2011), 11.

use crate::stats::exact::ln_binomial;
use crate::stats::incomplete::Split;
use std::f64::consts::PI;

/// `P(D >= d)` for one sample of `n` values against its own distribution.
pub(crate) fn kolmogorov_sf(d: f64, n: f64) -> f64 {
    let square = n * d * d;
    if n * d <= 0.5 {
        1.0
    } else if d >= 1.0 {
        0.0
    } else if d >= 0.5 || square >= if n <= 140.0 { 4.0 } else { 2.2 } {
        // Both directions at once are impossible, or too unlikely to count.
        (2.0 * one_sided_sf(d, n)).min(1.0)
    } else if n <= 140.0 || (n <= 1e5 && n * d.powf(1.5) <= 1.4) {
        (1.0 - matrix_cdf(d, n)).clamp(0.0, 1.0)
    } else {
        (1.0 - expansion_cdf(d, n)).clamp(0.0, 1.0)
    }
}

/// `P(D+ >= d)`, a sum of binomial probabilities; its limit above a million values.
fn one_sided_sf(d: f64, n: f64) -> f64 {
    if n > 1e6 {
        let root = 6.0 * n * d + 1.0;
        return (-root * root / (18.0 * n)).exp();
    }
    let mut sum = (n * (-d).ln_1p()).exp();
    let mut j = 1.0;
    while j < n * (1.0 - d) {
        let at = Split { x: d + j / n, rest: (n - j) / n - d };
        sum += d / at.x * ln_binomial(j, n, at).exp();
        j += 1.0;
    }
    sum
}

/// `P(D < d)` as an entry of the `n`th power of a matrix (Durbin), by Marsaglia, Tsang and Wang.
fn matrix_cdf(d: f64, n: f64) -> f64 {
    let cells = (n * d).floor() + 1.0;
    let h = cells - n * d;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 200")]
    let k = cells as usize;
    let size = 2 * k - 1;
    let mut step = vec![0.0; size * size];
    let mut factorial = vec![1.0; size + 2];
    for i in 1..factorial.len() {
        factorial[i] = factorial[i - 1] * len(i);
    }
    for row in 0..size {
        for column in 0..size.min(row + 2) {
            let above = row + 1 - column; // 0 on the upper side of the diagonal
            let mut entry = 1.0;
            if column == 0 {
                entry -= h.powf(len(row + 1));
            }
            if row == size - 1 {
                entry -= h.powf(len(size - column));
            }
            if column == 0 && row == size - 1 && 2.0 * h > 1.0 {
                entry += (2.0 * h - 1.0).powf(len(size));
            }
            step[row * size + column] = entry / factorial[above];
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 1e5")]
    let count = n as usize;
    let (power, mut exponent) = matrix_power(&step, size, count);
    let mut value = power[(k - 1) * size + k - 1];
    for i in 1..=count {
        value *= len(i) / n;
        if value < 1e-140 {
            value *= 1e140;
            exponent -= 140;
        }
    }
    value * 10f64.powi(exponent)
}

/// `base^n` and a power of ten it is to be multiplied by.
fn matrix_power(base: &[f64], size: usize, n: usize) -> (Vec<f64>, i32) {
    if n == 1 {
        return (base.to_vec(), 0);
    }
    let (half, exponent) = matrix_power(base, size, n / 2);
    let mut power = product(&half, &half, size);
    let mut exponent = 2 * exponent;
    if n % 2 == 1 {
        power = product(&power, base, size);
    }
    if power[(size / 2) * size + size / 2] > 1e140 {
        for entry in &mut power {
            *entry *= 1e-140;
        }
        exponent += 140;
    }
    (power, exponent)
}

fn product(left: &[f64], right: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for i in 0..size {
        for k in 0..size {
            let factor = left[i * size + k];
            for j in 0..size {
                out[i * size + j] += factor * right[k * size + j];
            }
        }
    }
    out
}

/// `P(D <= d)` for large `n`: Kolmogorov's limit and three corrections, by Pelz and Good.
fn expansion_cdf(d: f64, n: f64) -> f64 {
    let z = n.sqrt() * d;
    let (z2, z4, pi2) = (z * z, z.powi(4), PI * PI);
    let (z6, z8) = (z2 * z4, z4 * z4);
    let mut odd = [0.0; 4];
    let mut even = [0.0; 2];
    for k in 0..40 {
        // Odd multiples of half a period, then whole ones.
        let a = pi2 * (f64::from(k) + 0.5).powi(2);
        let (a2, a3, weight) = (a * a, a * a * a, (-a / (2.0 * z2)).exp());
        odd[0] += weight;
        odd[1] += weight * (a - z2);
        odd[2] +=
            weight * (6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * a + (1.0 - 2.0 * z2) * a2);
        odd[3] += weight
            * (-30.0 * z6 - 90.0 * z8
                + (135.0 * z4 - 96.0 * z6) * a
                + (212.0 * z4 - 60.0 * z2) * a2
                + (5.0 - 30.0 * z2) * a3);
        let b = pi2 * f64::from(k + 1).powi(2);
        let weight = (-b / (2.0 * z2)).exp();
        even[0] += weight * b;
        even[1] += weight * b * (3.0 * z2 - b);
        if a > 1500.0 * z2 {
            break;
        }
    }
    let root = (2.0 * PI).sqrt();
    let terms = [
        odd[0] / z,
        odd[1] / (6.0 * z4),
        odd[2] / (72.0 * z6 * z) - even[0] / (36.0 * z2 * z),
        odd[3] / (6480.0 * z8 * z2) + even[1] / (216.0 * z6),
    ];
    let step = 1.0 / n.sqrt();
    root * (terms[0] + step * (terms[1] + step * (terms[2] + step * terms[3])))
}

/// A length as a number; below 2^53 without loss.
const fn len(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_of_one_value_is_a_straight_line() {
        for d in [0.55, 0.7, 0.95] {
            assert!((kolmogorov_sf(d, 1.0) - 2.0 * (1.0 - d)).abs() < 1e-14);
        }
        assert_eq!((kolmogorov_sf(0.5, 1.0), kolmogorov_sf(1.0, 9.0)), (1.0, 0.0));
    }

    #[test]
    fn the_ways_to_the_distribution_meet() {
        for (n, z) in [(2_000.0f64, 0.8), (2_000.0, 1.2), (5_000.0, 1.0)] {
            let d = z / n.sqrt();
            let (exact, expanded) = (matrix_cdf(d, n), expansion_cdf(d, n));
            assert!((exact - expanded).abs() < 2e-6, "{n} {z}: {exact} {expanded}");
        }
        let d = 2.0 / 100f64.sqrt();
        let (two, exact) = (2.0 * one_sided_sf(d, 100.0), 1.0 - matrix_cdf(d, 100.0));
        assert!((two / exact - 1.0).abs() < 1e-9, "{two} {exact}");
        let (summed, limit) = (one_sided_sf(0.004, 999_999.0), one_sided_sf(0.004, 1_000_001.0));
        assert!((summed / limit - 1.0).abs() < 1e-3, "{summed} {limit}");
    }

    #[test]
    fn far_tails_keep_their_digits() {
        // (1 - d)^n twice, where only one term of the sum is left.
        let want = 2.0 * (-0.999f64).ln_1p().mul_add(50.0, 0.0).exp();
        assert!((kolmogorov_sf(0.999, 50.0) / want - 1.0).abs() < 1e-12);
    }
}
