//! Rates, means and ratios at one look, called by the names of the reference table.

use pilotage::stats::cuped::cuped_diff;
use pilotage::stats::error::StatsError;
use pilotage::stats::exact::{self, Events};
use pilotage::stats::interval::{self, Interval};
use pilotage::stats::means::{self, TTest};
use pilotage::stats::moments::{Moments, PairMoments};
use pilotage::stats::power::{self, Design};
use pilotage::stats::proportion::{self, Alternative, Proportion, ZTest};
use pilotage::stats::ratio;
use serde_json::{Value, json};

/// What `function` answers to `args`, or nothing if it is not one of this file's.
pub fn run(function: &str, args: &Value) -> Option<Result<Value, StatsError>> {
    answer(function, &Args(args)).transpose()
}

fn answer(function: &str, args: &Args<'_>) -> Result<Option<Value>, StatsError> {
    let alpha = args.get("alpha");
    let bounds = |own: Interval| json!({"lo": own.lo, "hi": own.hi});
    let z = |own: ZTest| json!({"z": own.z, "p": own.p});
    Ok(Some(match function {
        "wilson_interval" => bounds(interval::wilson_interval(args.rate("x", "n")?, alpha)?),
        "agresti_coull_interval" => {
            bounds(interval::agresti_coull_interval(args.rate("x", "n")?, alpha)?)
        }
        "clopper_pearson_interval" => {
            bounds(interval::clopper_pearson_interval(args.rate("x", "n")?, alpha)?)
        }
        "newcombe_diff_interval" => {
            let (one, two) = args.two_rates()?;
            bounds(interval::newcombe_diff_interval(one, two, alpha)?)
        }
        "miettinen_nurminen_diff_interval_uncorrected" => {
            let (one, two) = args.two_rates()?;
            bounds(interval::miettinen_nurminen_diff_interval_uncorrected(one, two, alpha)?)
        }
        "risk_ratio_katz_log_interval" => {
            let (one, two) = args.two_rates()?;
            bounds(interval::risk_ratio_katz_log_interval(one, two, alpha)?)
        }
        "two_proportion_z_pooled" => {
            let (one, two) = args.two_rates()?;
            z(proportion::two_proportion_z_pooled(one, two, args.alternative()))
        }
        "two_proportion_z_unpooled" => {
            let (one, two) = args.two_rates()?;
            z(proportion::two_proportion_z_unpooled(one, two)?)
        }
        "noninferiority_diff_wald" => {
            let (new, old) = (args.rate("x_new", "n_new")?, args.rate("x_old", "n_old")?);
            z(proportion::noninferiority_diff_wald(new, old, args.get("margin"))?)
        }
        "equivalence_tost_diff_wald" => {
            let (one, two) = args.two_rates()?;
            let (low, high) = (args.get("low"), args.get("high"));
            // The table's column named `p` holds the library's first result, the statistic (it exceeds
            // 1 in a row); the p-value is tested where the function is.
            json!({"p": proportion::equivalence_tost_diff_wald(one, two, low, high)?.z()})
        }
        "fisher_exact_two_sided" => {
            let (one, two) = args.two_rates()?;
            json!({"p": exact::fisher_exact_two_sided(one, two)})
        }
        "rate_ratio_exact_conditional" => {
            let (new, old) = args.two_streams()?;
            json!({"p": exact::rate_ratio_exact_conditional(new, old, args.get("null_ratio"))?})
        }
        "rate_ratio_score" => {
            let (new, old) = args.two_streams()?;
            z(exact::rate_ratio_score(new, old, args.get("null_ratio"))?)
        }
        "power_two_proportions_cohen_h" => {
            json!({"power": power::power_two_proportions_cohen_h(args.design(), args.get("n1"))?})
        }
        "sample_size_two_proportions_cohen_h" => {
            let design = args.design();
            let size = power::sample_size_two_proportions_cohen_h(design, args.get("power"))?;
            json!({"cohen_h": size.effect, "n1": size.first, "n1_ceil": size.first.ceil()})
        }
        "welch_t" => {
            let (a, b) = (Moments::of("a", &args.list("a"))?, Moments::of("b", &args.list("b"))?);
            student(&means::welch_t(&a, &b, alpha)?)
        }
        "welch_t_from_stats" => {
            let sample = |at: &str| {
                let get = |what: &str| args.get(&format!("{what}{at}"));
                Moments::from_mean(get("n"), get("mean"), get("var"))
            };
            student(&means::welch_t(&sample("1")?, &sample("2")?, 0.05)?)
        }
        "welch_relative_uplift" => {
            let sample = |at: &str| {
                let get = |what: &str| args.get(&format!("{what}_{at}"));
                Moments::from_sums(get("n"), get("sum"), get("sumsq"))
            };
            let own = means::welch_relative_uplift(&sample("a")?, &sample("b")?, alpha)?;
            let mut answer = student(&own);
            answer["uplift"] = json!(own.effect);
            answer
        }
        "cuped_diff" => {
            let own = cuped_diff(
                &args.pairs("a_pre", "a_post")?,
                &args.pairs("b_pre", "b_post")?,
                alpha,
            )?;
            let mut answer = student(&own.test);
            answer["mean_a"] = json!(own.mean_a);
            answer["mean_b"] = json!(own.mean_b);
            answer
        }
        "ratio_metric_delta_method" => {
            let (a, b) = (args.pairs("a_num", "a_den")?, args.pairs("b_num", "b_den")?);
            let own = ratio::ratio_metric_delta_method(&a, &b, alpha)?;
            json!({
                "ratio_a": ratio::ratio_estimate("a", &a)?.ratio,
                "ratio_b": ratio::ratio_estimate("b", &b)?.ratio,
                "effect": own.effect, "ci_lo": own.interval.lo, "ci_hi": own.interval.hi,
                "z": own.z, "p": own.p,
            })
        }
        "ratio_metric_from_sums_welch" => {
            let (a, b) = (args.sums(0)?, args.sums(1)?);
            let mut answer = student(&ratio::ratio_metric_welch(&a, &b, alpha)?);
            answer["var_a"] = json!(ratio::ratio_estimate("a", &a)?.variance);
            answer["var_b"] = json!(ratio::ratio_estimate("b", &b)?.variance);
            answer
        }
        _ => return Ok(None),
    }))
}

fn student(own: &TTest) -> Value {
    json!({
        "effect": own.effect, "t": own.t, "df": own.df, "p": own.p,
        "ci_lo": own.interval.lo, "ci_hi": own.interval.hi,
    })
}

/// A case's arguments by name.
struct Args<'a>(&'a Value);

impl Args<'_> {
    fn get(&self, name: &str) -> f64 {
        crate::more::number(&self.0[name])
    }

    fn list(&self, name: &str) -> Vec<f64> {
        crate::more::list(&self.0[name])
    }

    fn rate(&self, x: &str, n: &str) -> Result<Proportion, StatsError> {
        Proportion::from_f64(self.get(x), self.get(n))
    }

    fn two_rates(&self) -> Result<(Proportion, Proportion), StatsError> {
        Ok((self.rate("x1", "n1")?, self.rate("x2", "n2")?))
    }

    fn two_streams(&self) -> Result<(Events, Events), StatsError> {
        let new = Events::new(self.get("c_new"), self.get("e_new"))?;
        Ok((new, Events::new(self.get("c_old"), self.get("e_old"))?))
    }

    fn pairs(&self, x: &'static str, y: &'static str) -> Result<PairMoments, StatsError> {
        PairMoments::of((x, &self.list(x)), (y, &self.list(y)))
    }

    fn sums(&self, at: usize) -> Result<PairMoments, StatsError> {
        let get = |name: &str| crate::more::number(&self.0[name][at]);
        let (top, bottom) =
            ((get("num_sum"), get("num_sumsq")), (get("den_sum"), get("den_sumsq")));
        PairMoments::from_sums(get("n"), top, bottom, get("cross"))
    }

    fn alternative(&self) -> Alternative {
        match self.0["alternative"].as_str() {
            Some("larger" | "greater") => Alternative::Larger,
            Some("smaller" | "less") => Alternative::Smaller,
            _ => Alternative::TwoSided,
        }
    }

    fn design(&self) -> Design {
        Design {
            p1: self.get("p1"),
            p2: self.get("p2"),
            alpha: self.get("alpha"),
            ratio: self.get("ratio"),
            alternative: self.alternative(),
        }
    }
}
