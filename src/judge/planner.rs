//! What a stage can see, before it begins.
//!
//! At one request a second and a share of 5 %, two hours give a canary 360 requests, and no honest
//! rule can find a quadrupled error rate of 0.1 % in them. Better to know that than to call the
//! stage passed. A [`Prospect`] says what traffic there will be and what is feared; its
//! [`Forecast`] says how soon each would be seen, how often nothing would be, and how likely a
//! candidate as good as the baseline is to be shown so.
//!
//! Not a formula but the rule itself: the evidence depends on two counts only, so the distribution
//! of its first crossing is added up over the lattice of counts, event by event, exactly, for a
//! fault that begins with the stage.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::judge::evidence::{RatioTest, START, Side, Tallies};
use crate::judge::guardrail::{Guardrail, GuardrailError};
use crate::share::TrafficShare;
use crate::stats::eprocess_grid::{Grid, binomial};
use crate::stats::error::{StatsError, finite, open_unit};

/// A stage to come, as one guardrail on a rate sees it.
///
/// For a quantile of latency take `1 − q` as the base rate, and as ratios how many times more often
/// the threshold would be exceeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prospect {
    /// Requests per second of both arms together; subjects and windows, where they are counted.
    pub requests_per_second: f64,
    /// The candidate's share.
    pub share: TrafficShare,
    /// How long the stage is to last.
    pub lasts: Duration,
    /// The baseline's rate of events, for example 0.001.
    pub base_rate: f64,
    /// The guardrail.
    pub guardrail: Guardrail,
    /// The guardrail's part of the stage's α.
    pub alpha: f64,
    /// The stage's β.
    pub beta: f64,
    /// Ratios of the candidate's rate to the baseline's that are feared.
    pub feared: Vec<f64>,
}

/// What a stage will show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Forecast {
    /// Candidate requests in the whole stage.
    pub requests: f64,
    /// The probability of taking a candidate back that is as good as the baseline.
    pub false_alarm: f64,
    /// What becomes of each feared ratio.
    pub feared: Vec<Crossing>,
    /// How soon a candidate as good as the baseline is shown to be safe.
    pub proof: Crossing,
    /// What the stage cannot do, one sentence each. Empty for a stage that is fit for its purpose.
    pub underpowered: Vec<String>,
}

/// How soon evidence suffices, and how surely it does within the stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Crossing {
    /// The true ratio.
    pub ratio: f64,
    /// The probability within the stage.
    pub probability: f64,
    /// Median candidate requests, were the stage long enough; `None` when that is beyond what can
    /// be added up (50,000 events).
    pub median_requests: Option<f64>,
    /// The same as time.
    pub median: Option<Duration>,
}

/// A prospect that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlannerError {
    /// A number is out of range.
    #[error(transparent)]
    Number(#[from] StatsError),
    /// The guardrail cannot be used.
    #[error(transparent)]
    Guardrail(#[from] GuardrailError),
    /// Nobody or everybody is on the candidate.
    #[error("with {share} of the traffic on the candidate there is nothing to compare")]
    NoComparison {
        /// The share.
        share: TrafficShare,
    },
}

impl Prospect {
    /// What the stage will show.
    ///
    /// # Errors
    ///
    /// [`PlannerError`] naming the value that cannot be.
    pub fn forecast(&self) -> Result<Forecast, PlannerError> {
        self.check()?;
        let requests = self.requests_per_second * self.lasts.as_secs_f64() * self.share.fraction();
        let lattice = Lattice::new(self);
        let feared: Vec<Crossing> =
            self.feared.iter().map(|ratio| self.crossing(&lattice, *ratio, requests)).collect();
        let false_alarm = self.first(&lattice, 1.0, Side::Above, requests).by(requests);
        let proof = self.proof(&lattice, requests);
        let mut underpowered = Vec::new();
        for crossing in &feared {
            if crossing.probability < ENOUGH {
                underpowered.push(format!(
                    "a rate of {} times the baseline's is seen with probability {:.2} only{}",
                    crossing.ratio,
                    crossing.probability,
                    wait(crossing)
                ));
            }
        }
        if proof.probability < ENOUGH {
            underpowered.push(format!(
                "a candidate as good as the baseline is shown to be below {} times its rate with \
                 probability {:.2} only{}",
                self.guardrail.limit,
                proof.probability,
                wait(&proof)
            ));
        }
        Ok(Forecast { requests, false_alarm, feared, proof, underpowered })
    }

    fn check(&self) -> Result<(), PlannerError> {
        self.guardrail.check()?;
        open_unit("alpha", self.alpha)?;
        open_unit("beta", self.beta)?;
        open_unit("base rate", self.base_rate)?;
        finite("requests per second", self.requests_per_second)?;
        let bad = |name, value, expected| {
            Err(PlannerError::Number(StatsError::OutOfRange { name, value, expected }))
        };
        if self.requests_per_second <= 0.0 {
            return bad("requests per second", self.requests_per_second, "above 0");
        }
        if self.lasts.is_zero() {
            return bad("length of the stage", 0.0, "above 0");
        }
        if self.share == TrafficShare::NONE || self.share == TrafficShare::ALL {
            return Err(PlannerError::NoComparison { share: self.share });
        }
        for ratio in &self.feared {
            finite("feared ratio", *ratio)?;
            if *ratio <= 0.0 || ratio * self.base_rate > 1.0 {
                return bad("feared ratio", *ratio, "above 0, and no rate above 1");
            }
        }
        Ok(())
    }

    fn crossing(&self, lattice: &Lattice<'_>, ratio: f64, requests: f64) -> Crossing {
        let first = self.first(lattice, ratio, Side::Above, requests);
        self.told(ratio, &first, requests)
    }

    /// Safety is shown by the ratio, or by the rate lying below the one nobody minds.
    fn proof(&self, lattice: &Lattice<'_>, requests: f64) -> Crossing {
        let first = self.first(lattice, 1.0, Side::Below, requests);
        let mut told = self.told(1.0, &first, requests);
        let Some(needed) = self.floor_requests() else { return told };
        if told.median_requests.is_none_or(|median| median > needed) {
            told.median_requests = Some(needed);
            told.median = self.time(needed);
            if requests > needed {
                told.probability =
                    told.probability.max(if requests > 1.5 * needed { 0.9 } else { 0.5 });
            }
        }
        told
    }

    /// Requests after which a rate of exactly the baseline's is shown to be below the floor.
    fn floor_requests(&self) -> Option<f64> {
        let floor = self.guardrail.floor;
        if self.base_rate >= 0.9 * floor {
            return None;
        }
        let grid = Grid::geometric(floor, 1e-3, 12, |ratio| ratio.powf(0.3));
        let shown = |n: f64| {
            let events = (n * self.base_rate).round() as u64;
            binomial(events, (n as u64).saturating_sub(events), &grid) >= -self.beta.ln()
        };
        let (mut low, mut high) = (1.0, 1e12);
        if !shown(high) {
            return None;
        }
        while high / low > 1.01 {
            let middle = f64::sqrt(low * high);
            if shown(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }

    fn told(&self, ratio: f64, first: &FirstCrossing, requests: f64) -> Crossing {
        let median_requests = first.median();
        Crossing {
            ratio,
            probability: first.by(requests),
            median_requests,
            median: median_requests.and_then(|median| self.time(median)),
        }
    }

    fn time(&self, requests: f64) -> Option<Duration> {
        let seconds = requests / (self.requests_per_second * self.share.fraction());
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Events of both arms to a candidate request.
    fn events_per_request(&self, ratio: f64) -> f64 {
        let f = self.share.fraction();
        self.base_rate * (ratio + (1.0 - f) / f)
    }

    /// The distribution of the number of events at the first crossing, when the true ratio is this.
    fn first(&self, lattice: &Lattice<'_>, ratio: f64, side: Side, requests: f64) -> FirstCrossing {
        let f = self.share.fraction();
        let on_candidate = ratio * f / (ratio * f + 1.0 - f);
        let per_request = self.events_per_request(ratio);
        // Far enough for the median of a stage many times as long, and for the tail of this one.
        let expected = requests * per_request;
        let most = (4.0 * expected + 40.0).clamp(200.0, MOST_EVENTS) as u64;
        let mut at = vec![1.0];
        let mut base = 0_u64;
        let mut crossed = Vec::new();
        let mut gone = 0.0;
        let mut edge = 0;
        for n in 1..=most {
            // One more event: on the candidate with this probability.
            let mut next = vec![0.0; at.len() + 1];
            for (x, mass) in at.iter().enumerate() {
                next[x] += mass * (1.0 - on_candidate);
                next[x + 1] += mass * on_candidate;
            }
            edge = lattice.edge(side, n, edge, n as f64 / per_request);
            let mut now = 0.0;
            for (x, mass) in next.iter_mut().enumerate() {
                let x = base + x as u64;
                let beyond = match side {
                    Side::Above => x >= edge,
                    Side::Below => x < edge,
                };
                if beyond {
                    now += *mass;
                    *mass = 0.0;
                }
            }
            gone += now;
            crossed.push(now);
            // What is all but impossible is left out at both ends.
            let keep = |mass: &f64| *mass > 1e-13;
            let from = next.iter().position(keep).unwrap_or(0);
            let to = next.iter().rposition(keep).map_or(from, |last| last + 1);
            base += from as u64;
            at = next[from..to].to_vec();
            if at.is_empty() || gone > 1.0 - 1e-6 {
                break;
            }
        }
        FirstCrossing { crossed, per_request }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.underpowered.is_empty() {
            write!(f, "the stage sees what it is asked to see in {:.0} requests", self.requests)
        } else {
            write!(
                f,
                "underpowered: in {:.0} candidate requests {}",
                self.requests,
                self.underpowered.join("; ")
            )
        }
    }
}

fn wait(crossing: &Crossing) -> String {
    match (crossing.median_requests, crossing.median) {
        (Some(requests), Some(time)) => format!(
            " (half of the time it takes {requests:.0} candidate requests, {:.1} hours)",
            time.as_secs_f64() / 3600.0
        ),
        _ => String::new(),
    }
}

/// The rule, as a boundary on counts.
struct Lattice<'a> {
    prospect: &'a Prospect,
    above: RatioTest,
    below: RatioTest,
}

impl<'a> Lattice<'a> {
    fn new(prospect: &'a Prospect) -> Self {
        let guardrail = &prospect.guardrail;
        let whole = Tallies::of_share(prospect.share);
        Self {
            prospect,
            above: RatioTest::new(guardrail.null, Side::Above, guardrail.prior, &whole, 1.0),
            below: RatioTest::new(guardrail.limit, Side::Below, guardrail.prior, &whole, 1.0),
        }
    }

    /// The count on the candidate from which on (above), or below which (below), `n` events cross.
    /// It never falls as `n` grows, so the search begins at the last.
    fn edge(&self, side: Side, n: u64, last: u64, requests: f64) -> u64 {
        let mut edge = last;
        match side {
            Side::Above => {
                while edge <= n && !self.harm(edge, n - edge, requests) {
                    edge += 1;
                }
            }
            Side::Below => {
                let threshold = -self.prospect.beta.ln();
                while edge <= n && self.below.ln_e_of(edge, n - edge) >= threshold {
                    edge += 1;
                }
            }
        }
        edge
    }

    fn harm(&self, focus: u64, other: u64, requests: f64) -> bool {
        let guardrail = &self.prospect.guardrail;
        let f = self.prospect.share.fraction();
        let ratio = (focus as f64 + 0.5) / (other as f64 + 0.5) * (1.0 - f) / f;
        let e = START * self.above.ln_e_of(focus, other).min(700.0).exp() + 1.0 - START;
        focus >= guardrail.min_events
            && ratio > guardrail.gate()
            && focus as f64 > guardrail.floor * requests
            && e >= 1.0 / self.prospect.alpha
    }
}

/// The probability that the evidence first suffices at the `n`-th event.
struct FirstCrossing {
    crossed: Vec<f64>,
    per_request: f64,
}

impl FirstCrossing {
    /// The probability of a crossing within so many candidate requests.
    fn by(&self, requests: f64) -> f64 {
        // Events come by a Poisson process: sum of P(first at n) P(at least n events).
        let mean = requests * self.per_request;
        let (mut at_least, mut term) = (1.0, -mean);
        let mut sum = 0.0;
        for (n, crossed) in (1_u32..).zip(&self.crossed) {
            at_least -= term.exp();
            term += mean.ln() - f64::from(n).ln();
            sum += crossed * f64::clamp(at_least, 0.0, 1.0);
        }
        sum.clamp(0.0, 1.0)
    }

    fn median(&self) -> Option<f64> {
        let all: f64 = self.crossed.iter().sum();
        if all < 0.501 {
            return None;
        }
        let (mut low, mut high) = (1e-3, 4.0 * self.crossed.len() as f64 / self.per_request);
        while high / low > 1.002 {
            let middle = f64::sqrt(low * high);
            if self.by(middle) >= 0.5 { high = middle } else { low = middle }
        }
        Some(high)
    }
}

/// A stage that does what is asked with this probability is fit for it.
const ENOUGH: f64 = 0.8;
/// Events beyond which nothing is added up.
const MOST_EVENTS: f64 = 50_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn prospect(requests_per_second: f64, feared: &[f64]) -> Prospect {
        Prospect {
            requests_per_second,
            share: TrafficShare::percent(5.0).unwrap(),
            lasts: Duration::from_secs(7200),
            base_rate: 0.001,
            guardrail: Guardrail::error_rate(),
            alpha: 0.01,
            beta: 0.05,
            feared: feared.to_vec(),
        }
    }

    /// Medians of 1,000 simulated stages, looked at each fifth of a second or each second.
    #[test]
    fn detection_is_predicted_within_a_quarter_of_the_simulation() {
        let forecast = prospect(100.0, &[2.0, 4.0, 10.0, 150.0]).forecast().unwrap();
        for (crossing, simulated) in forecast.feared.iter().zip([16_780.0, 2_496.0, 465.0, 13.0]) {
            let median = crossing.median_requests.unwrap();
            assert!((median / simulated - 1.0).abs() < 0.25, "{crossing:?}: {simulated}");
        }
        assert!((forecast.feared[0].probability - 0.903).abs() < 0.05, "{forecast:?}");
        assert!(forecast.false_alarm > 0.001 && forecast.false_alarm < 0.01, "{forecast:?}");
    }

    #[test]
    fn a_stage_that_cannot_see_what_is_feared_says_so() {
        let forecast = prospect(1.0, &[4.0, 150.0]).forecast().unwrap();
        let sentence = forecast.to_string();
        assert!(sentence.starts_with("underpowered: in 360 candidate requests"), "{sentence}");
        assert!(sentence.contains("4 times") && !sentence.contains("150 times"), "{sentence}");
        let enough = prospect(1000.0, &[2.0, 4.0]).forecast().unwrap();
        assert!(enough.underpowered.is_empty(), "{enough}");
    }

    #[test]
    fn a_prospect_that_cannot_be_is_refused_by_name() {
        for (rate, ratio) in [(f64::NAN, 2.0), (0.0, 2.0), (1.0, f64::INFINITY), (1.0, 2_000.0)] {
            assert!(prospect(rate, &[ratio]).forecast().is_err(), "{rate} {ratio}");
        }
        let mut nobody = prospect(1.0, &[]);
        nobody.share = TrafficShare::ALL;
        assert!(nobody.forecast().unwrap_err().to_string().contains("100 %"));
    }
}
