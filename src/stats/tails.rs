//! Logarithms of beta and gamma integrals that stay exact for huge counts.
//!
//! Mixture tests compare `B(a + x, b + y)` with `p^x q^y`. Each of the two is of the order of
//! `exp(-n)`, and with a million observations their logarithms agree in the first six digits or
//! more: subtracting them throws away what was asked for. Here the large parts are cancelled on
//! paper, by Stirling's formula with its remainder and by deviances, so that a difference of
//! 0.001 nats survives even at 10^18 observations.
//!
//! All functions expect checked arguments; they are the floor below the public doors.

use crate::stats::special::stirling_rest;
use crate::stats::surprise::deviance;

/// `ln sqrt(2 pi)`.
const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_8;

/// `1 / sqrt(2 pi)`.
const INVERSE_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

/// More terms than any continued fraction here needs below [`LARGE`].
const TERMS: usize = 400_000;

/// From here on the continued fractions would take too many terms, and the first term of the
/// uniform expansion is exact to about one part in this number.
const LARGE: f64 = 1e9;

/// `ln [ B(a, b) / (p^a (1-p)^b) ]` for `a, b > 0` and `0 < p < 1`.
pub(crate) fn ln_beta_over(a: f64, b: f64, p: f64, q: f64) -> f64 {
    let n = a + b;
    deviance(a, n * p)
        + deviance(b, n * q)
        + LN_SQRT_TAU
        + 0.5 * (n.ln() - a.ln() - b.ln())
        + stirling_rest(a)
        + stirling_rest(b)
        - stirling_rest(n)
}

/// `ln [ B(a_1, ..., a_m) / prod w_i^a_i ]` for all `a_i > 0` and weights that sum to 1.
pub(crate) fn ln_multi_beta_over(a: &[f64], weights: &[f64]) -> f64 {
    let n: f64 = a.iter().sum();
    let mut sum = 0.5 * n.ln() - stirling_rest(n) - LN_SQRT_TAU;
    for (&a, &w) in a.iter().zip(weights) {
        sum += deviance(a, n * w) + LN_SQRT_TAU - 0.5 * a.ln() + stirling_rest(a);
    }
    sum
}

/// `ln I_p(a, b)`, the logarithm of the regularised incomplete beta function, with `q = 1 - p`.
///
/// Relative precision is kept in the far lower tail, where `I` itself would underflow.
pub(crate) fn ln_incomplete_beta(a: f64, b: f64, p: f64, q: f64) -> f64 {
    let n = a + b;
    if a.min(b) > LARGE {
        let mean = a / n;
        let eta = (2.0 * (deviance(a, n * p) + deviance(b, n * q)) / n).sqrt();
        let offset = (b * p - a * q) / n; // p - mean, kept exact
        let spread = (mean * (b / n)).sqrt();
        let bend = Bend { curve: spread * eta / offset.abs(), slope: (a - b) / n / (3.0 * spread) };
        return ln_uniform(if offset < 0.0 { -eta } else { eta }, n, bend);
    }
    if p * (n + 2.0) <= a + 1.0 {
        -ln_beta_over(a, b, p, q) - a.ln() + beta_fraction(a, b, p).ln()
    } else {
        let other = -ln_beta_over(b, a, q, p) - b.ln() + beta_fraction(b, a, q).ln();
        ln_one_minus_exp(other)
    }
}

/// `ln P(a, x)`, the logarithm of the regularised lower incomplete gamma function.
pub(crate) fn ln_incomplete_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if a > LARGE {
        let eta = (2.0 * deviance(a, x) / a).sqrt();
        let offset = (x - a) / a;
        let bend = Bend { curve: eta / offset.abs(), slope: -1.0 / 3.0 };
        return ln_uniform(if offset < 0.0 { -eta } else { eta }, a, bend);
    }
    // ln [ x^a e^-x / Gamma(a) ]
    let front = -deviance(a, x) + 0.5 * a.ln() - LN_SQRT_TAU - stirling_rest(a);
    if x < a + 1.0 {
        let (mut term, mut sum, mut k) = (1.0 / a, 1.0 / a, a);
        for _ in 0..TERMS {
            k += 1.0;
            term *= x / k;
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        front + sum.ln()
    } else {
        ln_one_minus_exp(front + gamma_fraction(a, x).ln())
    }
}

/// `ln Phi(z)`, the logarithm of the standard normal distribution function, also where `Phi`
/// itself underflows.
///
/// Not built on the error function of `statrs`, which is right to eleven digits only.
pub(crate) fn ln_normal_cdf(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    if x < 1.0 {
        // The power series of the error function.
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        let half = sum * std::f64::consts::FRAC_1_SQRT_2 * (2.0 * INVERSE_SQRT_TAU);
        return (0.5 + half.copysign(z)).ln();
    }
    let ln_tail = ln_mills(x) - x * x;
    if z < 0.0 { ln_tail } else { ln_one_minus_exp(ln_tail) }
}

/// `ln Phi(z) + z^2 / 2`, without the cancellation of the two far below zero.
pub(crate) fn ln_normal_cdf_over_density(z: f64) -> f64 {
    let x = -z / std::f64::consts::SQRT_2;
    if x < 1.0 { ln_normal_cdf(z) + 0.5 * z * z } else { ln_mills(x) }
}

/// `ln [ exp(x^2) erfc(x) / 2 ]` for `x >= 1`.
fn ln_mills(x: f64) -> f64 {
    gamma_fraction(0.5, x * x).ln() + x.ln()
        - std::f64::consts::LN_2
        - 0.5 * std::f64::consts::PI.ln()
}

/// The `z` that a standard normal value exceeds with the probability whose logarithm is
/// `ln_tail <= 0`; infinite when that probability is 0.
pub(crate) fn normal_upper_quantile(ln_tail: f64) -> f64 {
    if ln_tail == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    // The logarithm of the tail is concave in z, so Newton's steps, from anywhere, land beyond
    // the root once and then approach it from there. Start where tails are half as heavy.
    let mut z = (-2.0 * ln_tail).sqrt() - 1.0;
    for _ in 0..100 {
        let at = ln_normal_cdf(-z);
        let slope = -(-0.5 * z * z - LN_SQRT_TAU - at).exp();
        let step = (at - ln_tail) / slope;
        z -= step;
        if step.abs() <= 1e-14 * z.abs().max(1e-3) {
            break;
        }
    }
    z
}

/// Riemann's zeta function for `s > 1`.
pub(crate) fn zeta(s: f64) -> f64 {
    const DIRECT: i32 = 24;
    let n = f64::from(DIRECT);
    let head: f64 = (1..DIRECT).map(|k| f64::from(k).powf(-s)).sum();
    let power = n.powf(-s);
    // Euler and Maclaurin's tail of the sum.
    head + power * n / (s - 1.0)
        + 0.5 * power
        + power * s / n
            * (1.0 / 12.0
                - (s + 1.0) * (s + 2.0) / (n * n)
                    * (1.0 / 720.0 - (s + 3.0) * (s + 4.0) / (n * n) / 30_240.0))
}

/// `ln(1 - exp(x))` for `x <= 0`.
fn ln_one_minus_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// How an integrand bends away from the normal one: its ratio to it at the end of the range, and
/// the derivative of that ratio at the centre.
struct Bend {
    curve: f64,
    slope: f64,
}

/// Temme's uniform expansion, first correction included:
/// `ln [ Phi(eta sqrt n) - phi(eta sqrt n) (curve - 1) / (eta sqrt n) ]`.
fn ln_uniform(eta: f64, n: f64, bend: Bend) -> f64 {
    let z = eta * n.sqrt();
    let ln_density = -0.5 * z * z - LN_SQRT_TAU;
    if z < -30.0 {
        // Phi over phi is 1/|z| here, which cancels the 1 of `curve - 1`: what is left is `curve`.
        // Subtracting the two large logarithms instead would leave nothing but rounding.
        let s = 1.0 / (z * z);
        let rest = (bend.curve - s * (1.0 - s * (3.0 - s * 15.0))).max(0.5 * bend.curve);
        return ln_density - (-z).ln() + rest.ln();
    }
    let ln_cdf = ln_normal_cdf(z);
    // Near the centre `curve - 1` has lost its digits; there the slope says what it divides to.
    let per_eta = if eta.abs() < 1e-4 { bend.slope } else { (bend.curve - 1.0) / eta };
    ln_cdf + (-(ln_density - ln_cdf).exp() * per_eta / n.sqrt()).ln_1p()
}

/// The continued fraction of the upper incomplete gamma function, by Lentz's method.
fn gamma_fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..TERMS {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let i = i as f64;
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / away_from_zero(an * d + b);
        c = away_from_zero(b + an / c);
        let step = c * d;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..TERMS {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

fn away_from_zero(x: f64) -> f64 {
    if x.abs() < 1e-300 { 1e-300 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance * want.abs().max(1e-3), "{got} against {want}");
    }

    #[test]
    fn stirlings_rest_completes_the_factorials() {
        // ln Gamma(1) = ln Gamma(2) = 0 and ln Gamma(1/2) = ln sqrt(pi).
        close(stirling_rest(1.0), 1.0 - LN_SQRT_TAU, 1e-14);
        close(stirling_rest(2.0), 2.0 - 1.5 * 2f64.ln() - LN_SQRT_TAU, 1e-13);
        close(stirling_rest(0.5), 0.5 - 0.5 * 2f64.ln(), 1e-13);
    }

    #[test]
    fn zeta_agrees_with_what_euler_found() {
        let pi = std::f64::consts::PI;
        close(zeta(2.0), pi * pi / 6.0, 1e-14);
        close(zeta(4.0), pi.powi(4) / 90.0, 1e-14);
        close(zeta(1.4), 3.105_547_277_977_581, 1e-14);
    }

    #[test]
    fn the_beta_integral_of_a_uniform_is_the_point_itself() {
        for p in [1e-12, 0.1, 0.5, 0.9] {
            close(ln_incomplete_beta(1.0, 1.0, p, 1.0 - p), p.ln(), 1e-13);
        }
        // I_p(a, 1) = p^a.
        close(ln_incomplete_beta(3000.0, 1.0, 0.01, 0.99), 3000.0 * 0.01f64.ln(), 1e-13);
    }

    #[test]
    fn the_two_ways_to_a_beta_tail_meet() {
        // The expansion for huge shapes against the fraction, on both sides of the switch.
        let (a, b) = (LARGE * 0.999_999, 3.0 * LARGE);
        let (wide_a, wide_b) = (LARGE * 1.000_001, 3.0 * LARGE);
        for z in [-6.0, -1.0, 0.5, 3.0] {
            let at = |a: f64, b: f64| {
                let n = a + b;
                let p = a / n + z * (a / n * (b / n) / n).sqrt();
                ln_incomplete_beta(a, b, p, 1.0 - p)
            };
            close(at(a, b), at(wide_a, wide_b), 1e-5);
        }
    }

    #[test]
    fn the_two_ways_to_a_gamma_tail_meet() {
        for z in [-6.0, -1.0, 0.5, 3.0] {
            let at = |a: f64| ln_incomplete_gamma(a, a + z * a.sqrt());
            close(at(LARGE * 0.999_999), at(LARGE * 1.000_001), 1e-5);
        }
        // P(1, x) = 1 - e^-x.
        close(ln_incomplete_gamma(1.0, 1e-9), 1e-9f64.ln(), 1e-9);
        close(ln_incomplete_gamma(1.0, 5.0), (-(-5f64).exp()).ln_1p(), 1e-13);
    }

    #[test]
    fn the_normal_tail_goes_on_where_its_value_underflows() {
        let seam = -std::f64::consts::SQRT_2;
        close(ln_normal_cdf(seam * (1.0 + 1e-12)), ln_normal_cdf(seam * (1.0 - 1e-12)), 1e-11);
        close(ln_normal_cdf(-100.0), -5_005.524_208_694_205, 1e-14);
        close(ln_normal_cdf(-1e8), -5e15, 1e-13);
        let high = ln_normal_cdf(6.0) / -9.865_876_455_243_757e-10;
        assert!((high - 1.0).abs() < 1e-12, "{high}");
        close(ln_normal_cdf(0.0), -std::f64::consts::LN_2, 1e-14);
    }

    #[test]
    fn the_normal_quantile_undoes_the_tail() {
        for z in [-3.0, -0.5, 0.0, 1e-6, 0.7, 1.959_963_984_540_054, 8.8, 22.0, 100.0] {
            let found = normal_upper_quantile(ln_normal_cdf(-z));
            assert!((found - z).abs() < 1e-9, "{found} against {z}");
        }
        close(normal_upper_quantile(0.025f64.ln()), 1.959_963_984_540_054, 1e-13);
        assert_eq!(normal_upper_quantile(f64::NEG_INFINITY), f64::INFINITY);
    }
}
