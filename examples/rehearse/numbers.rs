//! Numbers as people write and read them.

use std::time::Duration;

/// `0.2%` or `0.002`.
pub fn part(text: &str) -> Option<f64> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

/// `100/s`, `50/min`, `2000/h`, or `100`, which is a second's.
pub fn rate(text: &str) -> Option<f64> {
    let (number, per) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match per {
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hour" => 3600.0,
        "d" | "day" => 86_400.0,
        _ => return None,
    };
    let value = number.trim().parse::<f64>().ok()? / seconds;
    (0.0..=1e9).contains(&value).then_some(value)
}

/// `250ms`, `90s`, `30m`, `2h30m`, `3d`, `1h 30m`; a number alone is seconds.
pub fn time(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut total, mut rest) = (0.0, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64(total).ok()
}

/// A time to read: two units at the most.
pub fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 120.0 {
        return format!("{seconds:.0} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 120 {
        return format!("{minutes} min");
    }
    let hours = (seconds / 3600.0).round() as u64;
    match (hours / 24, hours % 24) {
        (0, _) => format!("{} h {:02} min", minutes / 60, minutes % 60),
        (days, 0) => format!("{days} d"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

/// Seconds to read.
pub fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or("-".to_owned(), shown)
}

/// A count to read.
pub fn count(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.1} M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.1} k", value / 1e3)
    } else if size >= 10.0 || size.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// A probability to read.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent == 0.0 || percent >= 99.95 {
        format!("{percent:.0} %")
    } else if percent >= 10.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.2} %")
    }
}
