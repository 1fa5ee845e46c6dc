//! Ranks, many questions, tables, distances, fits, quantiles and posteriors, called by the names of
//! the reference table.

use pilotage::stats::error::StatsError;
use pilotage::stats::multiplicity::Adjusted;
use pilotage::stats::proportion::Alternative;
use pilotage::stats::quantile::Definition;
use pilotage::stats::rank::{Continuity, KsTest, RankTest};
use pilotage::stats::{bayes, divergence, imbalance, multiplicity, quantile, rank, stratified};
use serde_json::{Value, json};

/// What `function` answers to `args`, or nothing if it is not one of this file's.
pub fn run(function: &str, args: &Value) -> Option<Result<Value, StatsError>> {
    let (list, get) = (|name: &str| list(&args[name]), |name: &str| number(&args[name]));
    let ranks = |test: RankTest| json!({"u": test.u, "p": test.p});
    let ks = |test: KsTest| json!({"d": test.d, "p": test.p});
    let fit = |fit: imbalance::Fit| json!({"stat": fit.stat, "p": fit.p});
    let adjusted = |own: Adjusted| json!({"adjusted": own.p, "reject": own.reject});
    Some(match function {
        "mann_whitney_asymptotic" => {
            let continuity = if args["continuity"] == json!(true) {
                Continuity::Corrected
            } else {
                Continuity::Plain
            };
            rank::mann_whitney_asymptotic(&list("a"), &list("b"), alternative(args), continuity)
                .map(ranks)
        }
        "mann_whitney_exact" => {
            rank::mann_whitney_exact(&list("a"), &list("b"), alternative(args)).map(ranks)
        }
        "ks_two_sample_exact" => rank::ks_two_sample_exact(&list("a"), &list("b")).map(ks),
        "ks_two_sample_asymp" => rank::ks_two_sample_asymptotic(&list("a"), &list("b")).map(ks),
        "bonferroni" => multiplicity::bonferroni(&list("p"), get("alpha")).map(adjusted),
        "holm" => multiplicity::holm(&list("p"), get("alpha")).map(adjusted),
        "benjamini_hochberg" => {
            multiplicity::benjamini_hochberg(&list("p"), get("alpha")).map(adjusted)
        }
        "benjamini_yekutieli" => {
            multiplicity::benjamini_yekutieli(&list("p"), get("alpha")).map(adjusted)
        }
        "cochran_mantel_haenszel" => {
            let tables: Vec<_> =
                args["tables"].as_array().into_iter().flatten().map(table).collect();
            stratified::cochran_mantel_haenszel(&tables).map(|own| {
                json!({"stat": own.stat, "p": own.p, "odds_ratio_mh": own.odds_ratio,
                       "breslow_day_stat": own.heterogeneity, "breslow_day_p": own.heterogeneity_p})
            })
        }
        "cohens_kappa" => stratified::cohens_kappa(&table(&args["table"]))
            .map(|own| json!({"kappa": own.kappa, "std": own.std})),
        "mcnemar" => {
            let own = stratified::mcnemar(&table(&args["table"]));
            Ok(json!({"p_exact": own.p_exact, "chi2": own.chi2, "p_chi2": own.p_chi2}))
        }
        "psi_fixed_bins" => {
            divergence::population_stability_index(&list("expected"), &list("actual"), get("eps"))
                .map(|psi| json!({"psi": psi}))
        }
        "jensen_shannon_distance" => divergence::jensen_shannon_distance(&list("p"), &list("q"))
            .map(|own| json!({"base_e": own, "base_2": own / std::f64::consts::LN_2.sqrt()})),
        "wasserstein_1" => {
            divergence::wasserstein_1(&list("a"), &list("b")).map(|own| json!({"w1": own}))
        }
        "srm_chi_square" => imbalance::chi_square_fit(&list("observed"), &list("weights")).map(fit),
        "srm_g_test" => imbalance::g_fit(&list("observed"), &list("weights")).map(fit),
        "quantile" => quantiles(&list("data"), get("q")),
        "quantile_order_statistic_ci" => {
            quantile::order_statistic_ranks(get("n") as u64, get("q"), get("confidence")).map(
                |own| {
                    let rank =
                        |rank: Option<u64>| rank.map_or(json!("NaN"), |rank| json!(rank as f64));
                    json!({"rank_lo": rank(own.low), "rank_hi": rank(own.high)})
                },
            )
        }
        "bayes_beta_binomial" => bayes::beta_binomial(
            (get("x_a"), get("n_a")),
            (get("x_b"), get("n_b")),
            (get("prior_a"), get("prior_b")),
        )
        .map(|own| {
            json!({"prob_b_beats_a": own.prob_b_beats_a,
                   "expected_loss_choose_b": own.expected_loss_choose_b,
                   "expected_loss_choose_a": own.expected_loss_choose_a})
        }),
        _ => return None,
    })
}

/// All definitions, and the band a sketch with 1 % of relative error must hit.
fn quantiles(data: &[f64], q: f64) -> Result<Value, StatsError> {
    let of = |definition| quantile::quantile(data, q, definition);
    let floor = of(Definition::RankFloor)?;
    Ok(json!({
        "linear": of(Definition::Linear)?,
        "inverted_cdf": of(Definition::InvertedCdf)?,
        "higher": of(Definition::Higher)?,
        "hazen": of(Definition::Hazen)?,
        "median_unbiased": of(Definition::MedianUnbiased)?,
        "rank_floor": floor,
        "sketch_1pct_lo": floor * 0.99,
        "sketch_1pct_hi": floor * 1.01,
    }))
}

fn alternative(args: &Value) -> Alternative {
    match args["alternative"].as_str() {
        Some("greater" | "larger") => Alternative::Larger,
        Some("less" | "smaller") => Alternative::Smaller,
        _ => Alternative::TwoSided,
    }
}

fn table(value: &Value) -> stratified::Table {
    [0, 1].map(|row| [0, 1].map(|column| number(&value[row][column]) as u64))
}

pub fn list(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().map(number).collect()
}

pub fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(_) => f64::NAN,
        None => value.as_f64().unwrap_or(f64::NAN),
    }
}
