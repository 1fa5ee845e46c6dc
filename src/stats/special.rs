//! Normal tails, and logarithms that keep their digits.
//!
//! `statrs` 0.18 is not accurate enough here: its `erfc` was measured 1e-11 off at two standard
//! deviations, and farther out `exp(-x^2)` magnifies the rounding of `x^2`. So the tail is a power
//! series near the centre, a continued fraction outside, and the square is split in two. Of
//! `statrs` only `erfc_inv` is used, as the start of a Newton iteration.

use statrs::function::erf::erfc_inv;
use std::f64::consts::SQRT_2;

/// `ln sqrt(2 pi)`.
pub(crate) const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_8;

/// The smallest number above 0: half of it is 0, and so is half of a level this small.
pub(crate) const LEAST: f64 = 5e-324;

/// Where the continued fraction takes over from the series.
const FAR: f64 = 1.5;

/// `P(Z > z)` for a standard normal `Z`, good to about 1e-15 relative as far as it is a number.
pub(crate) fn normal_sf(z: f64) -> f64 {
    if z >= FAR {
        normal_pdf(z) * mills(z)
    } else if z <= -FAR {
        1.0 - normal_pdf(z) * mills(-z)
    } else {
        0.5 - normal_pdf(z) * centre(z)
    }
}

/// `P(Z <= z)` for a standard normal `Z`.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    normal_sf(-z)
}

/// `ln P(Z > z)`, also where the probability itself underflows.
pub(crate) fn ln_normal_sf(z: f64) -> f64 {
    if z < -1.0 {
        (-normal_sf(-z)).ln_1p()
    } else if z < FAR {
        normal_sf(z).ln()
    } else {
        -0.5 * z * z - LN_SQRT_TAU + mills(z).ln()
    }
}

/// The normal density, with `z^2` split so that its rounding does not reach the exponent.
pub(crate) fn normal_pdf(z: f64) -> f64 {
    let z = z.abs();
    if z > 1e3 {
        return 0.0;
    }
    let high = (z * 16.0).trunc() / 16.0; // short enough for an exact square
    let low = z - high;
    (-0.5 * high * high).exp() * (-low * (high + 0.5 * low)).exp() * (-LN_SQRT_TAU).exp()
}

/// Two-sided p-value of a standard normal statistic; 1 at 0.
pub(crate) fn normal_two_sided(z: f64) -> f64 {
    (2.0 * normal_sf(z.abs())).min(1.0)
}

/// The `z` with `P(Z > z) = p`, for `0 < p < 1`.
pub(crate) fn normal_isf(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_isf(1.0 - p); // exact: 1 - p is, above one half
    }
    let p = p.max(LEAST);
    let start = erfc_inv(2.0 * p) * SQRT_2;
    let mut z = if start.is_finite() { start } else { (-2.0 * p.ln()).sqrt() };
    for _ in 0..2 {
        // Newton on the logarithm of the tail, whose slope is minus the hazard.
        let ln_sf = ln_normal_sf(z);
        let hazard = (-0.5 * z * z - LN_SQRT_TAU - ln_sf).exp();
        z += (ln_sf - p.ln()) / hazard;
    }
    z
}

/// `(1 - Phi(z)) / phi(z)` for `z >= FAR`, by Laplace's continued fraction.
fn mills(z: f64) -> f64 {
    // The error falls like exp(-2 z sqrt(2 terms)).
    let terms = if z < 4.0 { 120 } else { 30 };
    let mut tail = z;
    for k in (1..=terms).rev() {
        tail = z + f64::from(k) / tail;
    }
    1.0 / tail
}

/// `(Phi(z) - 1/2) / phi(z)` for `|z| <= FAR`, by a series of one sign.
fn centre(z: f64) -> f64 {
    let square = z * z;
    let (mut term, mut sum, mut k) = (z, z, 1.0);
    while term.abs() > sum.abs() * 1e-17 {
        k += 2.0;
        term *= square / k;
        sum += term;
    }
    sum
}

/// `ln(1 + u) - u`, without cancellation near 0. `u > -1`.
pub(crate) fn ln_1p_minus(u: f64) -> f64 {
    if !(-0.5..=1.0).contains(&u) {
        return u.ln_1p() - u;
    }
    // ln(1+u) = 2 atanh(r) with r = u/(2+u), and 2r - u = -u r.
    let r = u / (2.0 + u);
    let s = r * r;
    let mut sum = 0.0;
    for k in (1..=20).rev() {
        sum = sum * s + 1.0 / f64::from(2 * k + 1);
    }
    2.0 * r * s * sum - u * r
}

/// `x ln(x/mean) + mean - x`, half the deviance of a count `x`, where `excess = mean - x`.
///
/// Takes the difference beside the two numbers, because that is what must not be rounded away
/// when both are huge.
pub(crate) fn deviance(x: f64, mean: f64, excess: f64) -> f64 {
    let u = excess / x;
    if x == 0.0 {
        mean
    } else if u.abs() < 0.5 {
        -x * ln_1p_minus(u)
    } else {
        x * (x / mean).ln() + excess
    }
}

/// What Stirling's formula leaves out: `ln Gamma(x) - ((x - 1/2) ln x - x + ln sqrt(2 pi))`,
/// for `x > 0`.
pub(crate) fn stirling_rest(x: f64) -> f64 {
    let mut rest = 0.0;
    let mut at = x;
    while at < 16.0 {
        // Each step up is exact: (at + 1/2) ln(1 + 1/at) - 1.
        rest += (at + 0.5) * (1.0 / at).ln_1p() - 1.0;
        at += 1.0;
    }
    let s = 1.0 / (at * at);
    rest + (1.0 / 12.0
        - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - s * (1.0 / 1188.0)))))
        / at
}

/// `ln B(a, b)` for `a, b > 0`.
pub(crate) fn ln_beta(a: f64, b: f64) -> f64 {
    let n = a + b;
    // a ln(a/n) + b ln(b/n) keeps its digits where three separate ln Gamma would not.
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    small * (small / n).ln()
        + large * (-small / n).ln_1p()
        + 0.5 * (n.ln() - a.ln() - b.ln())
        + LN_SQRT_TAU
        + stirling_rest(a)
        + stirling_rest(b)
        - stirling_rest(n)
}

/// `ln (n choose k)` for whole `0 <= k <= n`.
pub(crate) fn ln_choose(n: f64, k: f64) -> f64 {
    if k <= 0.0 || k >= n { 0.0 } else { -(n + 1.0).ln() - ln_beta(k + 1.0, n - k + 1.0) }
}

/// The number closest to a count. Exact below 2^53; above, one part in 10^16 off.
#[expect(clippy::cast_precision_loss, reason = "a relative error of 1e-16 is below all others")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::*;

    fn close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "{got} against {want}");
    }

    // Wanted values: 40-digit arithmetic.
    #[test]
    fn normal_tails_are_exact_far_out() {
        close(normal_sf(0.0), 0.5, 1e-16);
        close(normal_sf(1.959_963_984_540_054), 0.025, 1e-14);
        close(normal_sf(5.0), 2.866_515_718_791_939e-7, 1e-14);
        close(normal_sf(10.0), 7.619_853_024_160_526e-24, 1e-14);
        close(normal_sf(37.0), 5.725_571_222_524_576_6e-300, 2e-14);
        close(normal_sf(-5.0), 0.999_999_713_348_428_1, 1e-15);
        close(ln_normal_sf(100.0), -5_005.524_208_694_205, 1e-13);
    }

    #[test]
    fn the_two_ways_to_a_normal_tail_meet() {
        close(normal_sf(FAR - 1e-13), normal_sf(FAR + 1e-13), 1e-12);
        close(normal_sf(4.0), 3.167_124_183_311_992e-5, 1e-14);
    }

    #[test]
    fn the_normal_quantile_undoes_the_tail() {
        for p in [1e-300, 1e-100, 1e-12, 0.000_5, 0.025, 0.3, 0.5, 0.7, 0.975, 0.999_999] {
            close(normal_sf(normal_isf(p)), p, 2e-13);
        }
        close(normal_isf(0.025), 1.959_963_984_540_054, 1e-15);
    }

    #[test]
    fn the_logarithm_minus_its_argument_keeps_its_digits() {
        close(ln_1p_minus(1e-8), -4.999_999_966_666_667e-17, 1e-15);
        close(ln_1p_minus(1.0), LN_2 - 1.0, 1e-14);
        close(ln_1p_minus(-0.5), -LN_2 + 0.5, 1e-14);
    }

    #[test]
    fn the_gamma_family_agrees_with_factorials() {
        close(ln_choose(50.0, 3.0), 19_600f64.ln(), 1e-14);
        close(ln_choose(1e18, 2.0), (1e18f64 * (1e18 - 1.0) / 2.0).ln(), 1e-14);
        assert_eq!(ln_choose(7.0, 0.0), 0.0);
    }
}
