//! Something that goes wrong with a candidate, on purpose.

use std::fmt;
use std::str::FromStr;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// This fraction of calls fails, above 0 and up to 1.
    Errors(f64),
    /// Each call takes this many times as long, above 1 and up to 100.
    Slow(f64),
    /// Each call takes ten seconds longer.
    Hang,
}

/// A fault that is not understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected none, hang, errors:RATE with a rate above 0 and up to 1, or slow:FACTOR with a factor above 1 and up to 100"
)]
pub struct FaultError;

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let number = |text: &str| text.parse::<f64>().map_err(|_| FaultError);
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "hang" => Ok(Self::Hang),
            Some(("errors", rate)) => {
                let rate = number(rate)?;
                if rate > 0.0 && rate <= 1.0 { Ok(Self::Errors(rate)) } else { Err(FaultError) }
            }
            Some(("slow", factor)) => {
                let factor = number(factor)?;
                if factor > 1.0 && factor <= 100.0 {
                    Ok(Self::Slow(factor))
                } else {
                    Err(FaultError)
                }
            }
            _ => Err(FaultError),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Hang => f.write_str("hang"),
            Self::Errors(rate) => write!(f, "errors:{rate}"),
            Self::Slow(factor) => write!(f, "slow:{factor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_back_as_it_was_written() {
        for text in ["none", "hang", "errors:0.15", "slow:3"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_fault_that_could_not_be_noticed_or_played_is_refused() {
        for text in ["", "errors", "errors:0", "errors:1.1", "errors:NaN", "slow:1", "slow:inf"] {
            assert_eq!(text.parse::<Fault>(), Err(FaultError), "{text}");
        }
    }
}
