//! The functions one may look at at any time, called by the names of the reference table.

use pilotage::stats::adwin::{Adwin, AdwinSettings};
use pilotage::stats::anytime::AnytimeInterval;
use pilotage::stats::asymptotic::{
    self, AnytimeDifference, EffectScale, RatioSums, Successes, Sums,
};
use pilotage::stats::error::StatsError;
use pilotage::stats::mixture::{self, Sides, Tuning};
use pilotage::stats::page_hinkley::{PageHinkley, PageHinkleySettings};
use pilotage::stats::quantile_bound::{self, QuantileTuning, Stitching};
use pilotage::stats::spending::{self, Spending};
use pilotage::stats::{betting, eprocess, predmix, sample_ratio, surprise, two_stream};
use serde_json::{Value, json};

/// What `function` answers to `args`, or nothing if it is not one of this file's.
pub fn run(function: &str, args: &Value) -> Option<Result<Value, StatsError>> {
    let args = Args(args);
    Some(match function {
        "betting_cs" => betting::betting_cs(&args.list("x"), args.get("alpha")).map(interval),
        "betting_martingale_hedged" => {
            betting::betting_martingale_hedged(&args.list("x"), args.get("m"), args.get("alpha"))
                .map(|log_e| json!({"e": number(log_e.exp())}))
        }
        "predmix_hoeffding_cs" => predmix::predmix_hoeffding_cs(
            &args.list("x"),
            args.get("alpha"),
            args.get("truncation"),
        )
        .map(interval),
        "predmix_empirical_bernstein_cs" => predmix::predmix_empirical_bernstein_cs(
            &args.list("x"),
            args.get("alpha"),
            args.get("truncation"),
        )
        .map(interval),
        "asymptotic_cs_means" => asymptotic::asymptotic_cs_means(
            args.sums("n_a", "sum_a", "sumsq_a"),
            args.sums("n_b", "sum_b", "sumsq_b"),
            EffectScale::Absolute,
            args.get("alpha"),
            args.get("tuning"),
        )
        .map(difference),
        "asymptotic_cs_two_proportions_absolute" => two_rates(&args, EffectScale::Absolute),
        "asymptotic_cs_two_proportions_relative" => two_rates(&args, EffectScale::Relative),
        "ratio_metric_from_sums_asymptotic_cs" => two_ratios(&args),
        "normal_log_mixture" => mixture::normal_log_mixture(
            args.get("s"),
            args.get("v"),
            args.mixture_tuning(),
            args.sides(),
        )
        .map(evidence),
        "normal_mixture_bound" => mixture::normal_mixture_bound(
            args.get("v"),
            args.get("alpha"),
            args.mixture_tuning(),
            args.sides(),
        )
        .map(bound),
        "gamma_exponential_mixture_bound" => mixture::gamma_exponential_mixture_bound(
            args.get("v"),
            args.get("alpha"),
            args.mixture_tuning(),
            args.get("c"),
        )
        .map(bound),
        "beta_binomial_mixture_bound" => mixture::beta_binomial_mixture_bound(
            args.get("v"),
            args.get("alpha"),
            args.mixture_tuning(),
            args.get("g"),
            args.get("h"),
            args.sides(),
        )
        .map(bound),
        "bernoulli_confidence_sequence" => mixture::bernoulli_confidence_sequence(
            args.get("successes"),
            args.get("trials"),
            args.get("alpha"),
            args.get("t_opt"),
            args.get("alpha_opt"),
        )
        .map(interval),
        "bernoulli_kl" => surprise::surprise(args.get("p"), args.get("q"), 0.01).map(|found| {
            json!({"kl": number(found.kl), "wald_bound_alpha_0_01": number(found.wald_bound)})
        }),
        "eprocess_binomial_one_sided_beta_mixture" => {
            eprocess::eprocess_binomial_one_sided_beta_mixture(
                args.get("successes"),
                args.get("trials"),
                args.get("q0"),
            )
            .map(evidence)
        }
        "eprocess_binomial_two_sided_beta_mixture" => {
            eprocess::eprocess_binomial_two_sided_beta_mixture(
                args.get("successes"),
                args.get("trials"),
                args.get("q0"),
                args.get("a"),
                args.get("b"),
            )
            .map(evidence)
        }
        "eprocess_rate_ratio_grid" => eprocess::eprocess_rate_ratio_grid(
            args.get("canary_events"),
            args.get("total_events"),
            args.get("canary_share"),
            args.get("null_ratio"),
        )
        .map(evidence),
        "eprocess_two_proportions_plugin" => two_proportions(&args).map(evidence),
        "sequential_srm_multinomial" => sample_ratio::sequential_srm_multinomial(
            &args.list("weights"),
            &args.lists("batches"),
            args.get("k"),
        )
        .map(|(log_odds, p)| {
            let log_odds: Vec<Value> = log_odds.into_iter().map(number).collect();
            json!({"log_odds": log_odds, "p": number(p)})
        }),
        "poly_stitching_bound" => quantile_bound::poly_stitching_bound(
            args.get("v"),
            args.get("alpha"),
            args.get("v_min"),
            args.get("c"),
            args.stitching(),
        )
        .map(bound),
        "empirical_process_lil_bound" => quantile_bound::empirical_process_lil_bound(
            args.get("t"),
            args.get("alpha"),
            args.get("t_min"),
            args.get("A"),
        )
        .map(bound),
        "quantile_double_stitching_bound" => quantile_bound::quantile_double_stitching_bound(
            args.get("q"),
            args.get("t"),
            args.get("alpha"),
            QuantileTuning {
                t_opt: args.get("t_opt"),
                delta: args.get("delta"),
                stitching: args.stitching(),
            },
        )
        .map(bound),
        "quantile_ab_p_value" => quantile_bound::quantile_ab_p_value(
            &args.list("a"),
            &args.list("b"),
            args.get("q"),
            Tuning { v_opt: args.get("t_opt"), alpha_opt: args.get("alpha_opt") },
        )
        .map(|p| json!({"p": number(p)})),
        "lan_demets_obrien_fleming" => {
            looks(&args, Spending::OBrienFleming, args.get("alpha_one_sided"))
        }
        "lan_demets_pocock" => looks(&args, Spending::Pocock, args.get("alpha_one_sided")),
        "lan_demets_power_family" => {
            let spending = Spending::Power { rho: args.get("rho") };
            looks(&args, spending, args.get("alpha") / args.get("sides"))
        }
        "adwin" => adwin(&args),
        "page_hinkley" => page_hinkley(&args),
        _ => return None,
    })
}

/// The arguments of a case. A missing one is a mistake of the table or of this file.
struct Args<'a>(&'a Value);

impl Args<'_> {
    fn get(&self, name: &str) -> f64 {
        float(&self.0[name])
    }

    fn list(&self, name: &str) -> Vec<f64> {
        let list = self.0[name].as_array().unwrap_or_else(|| panic!("no list {name}: {}", self.0));
        list.iter().map(float).collect()
    }

    fn lists(&self, name: &str) -> Vec<Vec<f64>> {
        let list = self.0[name].as_array().unwrap_or_else(|| panic!("no list {name}: {}", self.0));
        list.iter()
            .map(|row| row.as_array().expect("a list of lists").iter().map(float).collect())
            .collect()
    }

    fn sums(&self, n: &str, sum: &str, squares: &str) -> Sums {
        Sums { n: self.get(n), sum: self.get(sum), sum_of_squares: self.get(squares) }
    }

    fn mixture_tuning(&self) -> Tuning {
        Tuning { v_opt: self.get("v_opt"), alpha_opt: self.get("alpha_opt") }
    }

    fn stitching(&self) -> Stitching {
        Stitching { s: self.get("s"), eta: self.get("eta") }
    }

    fn sides(&self) -> Sides {
        if self.flag("one_sided") { Sides::One } else { Sides::Two }
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or_else(|| panic!("no flag {name}: {}", self.0))
    }
}

fn float(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap_or_else(|| panic!("{value} is not a number")),
    }
}

/// A number as the table writes it.
fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn looks(args: &Args, spending: Spending, alpha: f64) -> Result<Value, StatsError> {
    let z = spending::lan_demets(spending, &args.list("information"), alpha)?;
    Ok(json!({"z": z.into_iter().map(number).collect::<Vec<_>>()}))
}

fn bound(bound: f64) -> Value {
    json!({"bound": number(bound)})
}

fn difference(found: AnytimeDifference) -> Value {
    json!({
        "effect": number(found.effect),
        "ci_lo": number(found.low),
        "ci_hi": number(found.high),
        "p": number(found.p),
    })
}

fn evidence(log_e: f64) -> Value {
    json!({"log_e": number(log_e)})
}

fn interval(interval: AnytimeInterval) -> Value {
    json!({"lo": number(interval.lo), "hi": number(interval.hi)})
}

/// The generated series of a case: a fixed generator, so the table need not hold the values.
fn series(spec: &Value) -> Vec<f64> {
    let mut state = spec["seed"].as_u64().expect("a seed");
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut values = Vec::new();
    for segment in spec["segments"].as_array().expect("segments") {
        let get = |name: &str| float(&segment[name]);
        for _ in 0..segment["n"].as_u64().expect("a length") {
            let u = uniform();
            values.push(match segment["kind"].as_str() {
                Some("bernoulli") => f64::from(u8::from(u < get("p"))),
                Some("uniform") => get("lo") + (get("hi") - get("lo")) * u,
                Some("exponential") => -get("mean") * (1.0 - u).ln(),
                other => panic!("a segment of kind {other:?}"),
            });
        }
    }
    values
}

fn two_rates(args: &Args, scale: EffectScale) -> Result<Value, StatsError> {
    let arm = |n, x| Successes { n: args.get(n), x: args.get(x) };
    let (alpha, tuning) = (args.get("alpha"), args.get("tuning"));
    asymptotic::asymptotic_cs_two_proportions(
        arm("n_a", "x_a"),
        arm("n_b", "x_b"),
        scale,
        alpha,
        tuning,
    )
    .map(difference)
}

fn two_ratios(args: &Args) -> Result<Value, StatsError> {
    let arm = |at: usize| RatioSums {
        n: args.list("n")[at],
        numerator: args.list("num_sum")[at],
        numerator_squares: args.list("num_sumsq")[at],
        denominator: args.list("den_sum")[at],
        denominator_squares: args.list("den_sumsq")[at],
        cross: args.list("cross")[at],
    };
    let (a, b) = (arm(0), arm(1));
    let mut found = asymptotic::asymptotic_cs_ratios(
        a,
        b,
        EffectScale::Absolute,
        args.get("alpha"),
        args.get("tuning"),
    )
    .map(difference)?;
    found["var_a"] = number(asymptotic::ratio_variance(a)?);
    found["var_b"] = number(asymptotic::ratio_variance(b)?);
    Ok(found)
}

fn two_proportions(args: &Args) -> Result<f64, StatsError> {
    // The crate takes outcomes as `bool`, so a value that is neither 0 nor 1 has no way in.
    let outcomes = |name: &'static str| -> Result<Vec<bool>, StatsError> {
        let outcome = |value: f64| match value {
            1.0 => Ok(true),
            0.0 => Ok(false),
            _ => Err(StatsError::OutOfRange { name, value, expected: "0 or 1" }),
        };
        args.list(name).into_iter().map(outcome).collect()
    };
    two_stream::eprocess_two_proportions_plugin(&outcomes("a")?, &outcomes("b")?, args.get("gamma"))
}

fn adwin(args: &Args) -> Result<Value, StatsError> {
    let mut window = Adwin::new(AdwinSettings {
        delta: args.get("delta"),
        clock: args.get("clock") as u32,
        max_buckets: args.get("max_buckets") as usize,
        min_window_length: args.get("min_window_length") as u32,
        grace_period: args.get("grace_period") as u32,
    })?;
    let values = series(&args.0["series"]);
    let mut detections = Vec::new();
    for (at, value) in values.iter().enumerate() {
        if window.push(*value)? {
            detections.push(at);
        }
    }
    Ok(json!({
        "detections": detections,
        "final_width": window.width() as f64,
        "mean_first3": values[..3.min(values.len())],
    }))
}

fn page_hinkley(args: &Args) -> Result<Value, StatsError> {
    let mut alarm = PageHinkley::new(PageHinkleySettings {
        min_instances: args.get("min_instances") as u64,
        delta: args.get("delta"),
        threshold: args.get("threshold"),
        alpha: args.get("alpha"),
    })?;
    let mut detections = Vec::new();
    for (at, value) in series(&args.0["series"]).iter().enumerate() {
        if alarm.push(*value)? {
            detections.push(at);
        }
    }
    Ok(json!({"detections": detections}))
}
