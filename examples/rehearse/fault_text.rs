//! Faults as people write them: `errors x5 at 30h for 2h`.

use pilotage::sim::fault::{Fault, Kind, Whom};

use crate::numbers::{part, time};

/// The fault that `text` describes, or what of it cannot be understood.
pub fn fault(text: &str) -> Result<Fault, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let wrong = |why: &str| Err(format!("--fault \"{text}\": {why}"));
    let (kind, mut rest) = match words.as_slice() {
        ["nan", "scores", rest @ ..] => (Kind::NanScores, rest),
        ["restart", rest @ ..] => (Kind::Restart, rest),
        ["no", "data", rest @ ..] => (Kind::Lost(1.0), rest),
        [what, size, rest @ ..] => match kind(what, size) {
            Some(kind) => (kind, rest),
            None => return wrong(KINDS),
        },
        _ => return wrong(KINDS),
    };
    let mut fault = Fault::new(kind);
    while let [word, value, more @ ..] = rest {
        rest = more;
        match (*word, time(value)) {
            ("at", Some(at)) => fault.from = at,
            ("for", Some(lasting)) => fault.lasting = Some(lasting),
            ("ramp", Some(ramp)) => fault.ramp = ramp,
            ("pulse", _) => {
                let pair =
                    value.split_once('/').and_then(|(on, off)| Some((time(on)?, time(off)?)));
                let Some(pair) = pair else { return wrong("a pulse is written 5m/10m") };
                fault.pulse = Some(pair);
            }
            ("on", _) => {
                fault.whom = match *value {
                    "candidate" => Whom::Candidate,
                    "baseline" => Whom::Baseline,
                    "both" => Whom::Both,
                    _ => return wrong("it can be on candidate, baseline or both"),
                }
            }
            ("in", _) => match value.parse::<usize>() {
                Ok(segment @ 1..=64) => fault.segment = Some(segment - 1),
                _ => return wrong("segments are numbered from 1"),
            },
            ("at" | "for" | "ramp", None) => return wrong("times are written 90s, 30m, 2h or 3d"),
            _ => return wrong("after the kind come at, for, ramp, pulse, on and in"),
        }
    }
    if !rest.is_empty() {
        return wrong("a word stands alone at its end");
    }
    Ok(fault)
}

fn kind(what: &str, size: &str) -> Option<Kind> {
    let times = || size.strip_prefix('x')?.parse::<f64>().ok();
    let plus = || part(size.strip_prefix('+')?);
    Some(match what {
        "errors" if size.starts_with('x') => Kind::ErrorsTimes(times()?),
        "errors" => Kind::Errors(plus()?),
        "timeouts" => Kind::Timeouts(plus()?),
        "hangs" => Kind::Hangs(plus()?),
        "latency" => Kind::LatencyTimes(times()?),
        "traffic" => Kind::TrafficTimes(times()?),
        "score" => Kind::ScoreDrop(-size.parse::<f64>().ok()?),
        "agreement" => Kind::Agreement(part(size)?),
        "lost" => Kind::Lost(part(size)?),
        "clock" => match size.strip_prefix('-') {
            Some(back) => Kind::ClockJump(-time(back)?.as_secs_f64()),
            None => Kind::ClockJump(time(size.strip_prefix('+')?)?.as_secs_f64()),
        },
        _ => return None,
    })
}

/// A fault to read, without when.
pub fn shown(fault: &Fault) -> String {
    let kind = match fault.kind {
        Kind::ErrorsTimes(times) => format!("errors x{times}"),
        Kind::Errors(rate) => format!("errors +{}", crate::numbers::percent(rate)),
        Kind::Timeouts(rate) => format!("timeouts +{}", crate::numbers::percent(rate)),
        Kind::Hangs(rate) => format!("hangs +{}", crate::numbers::percent(rate)),
        Kind::LatencyTimes(times) => format!("latency x{times}"),
        Kind::ScoreDrop(drop) => format!("score {:+}", -drop),
        Kind::Agreement(rate) => format!("agreement {}", crate::numbers::percent(rate)),
        Kind::Lost(rate) => format!("lost {}", crate::numbers::percent(rate)),
        Kind::NanScores => "nan scores".to_owned(),
        Kind::TrafficTimes(times) => format!("traffic x{times}"),
        Kind::ClockJump(seconds) => format!("clock {seconds:+} s"),
        Kind::Restart => "restart".to_owned(),
        _ => format!("{:?}", fault.kind),
    };
    let whom = match fault.whom {
        Whom::Candidate => "",
        Whom::Baseline => " on baseline",
        Whom::Both => " on both",
    };
    let segment = fault.segment.map_or(String::new(), |own| format!(" in {}", own + 1));
    let lasting = fault.lasting;
    let lasting =
        lasting.map_or(String::new(), |own| format!(" for {}", crate::numbers::shown(own)));
    format!("{kind}{whom}{segment}{lasting}")
}

const KINDS: &str = "it begins with one of: errors x5, errors +2%, timeouts +1%, hangs +1%, \
    latency x1.5, score -0.1, agreement 70%, lost 20%, no data, nan scores, traffic x0.1, clock +1h, restart";
