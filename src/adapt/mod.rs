//! Connections to other crates and formats: one each, behind a feature of its own.

#[cfg(any(feature = "json", feature = "toml"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "json", feature = "toml"))))]
pub mod flag_file;
#[cfg(feature = "flagd")]
#[cfg_attr(docsrs, doc(cfg(feature = "flagd")))]
pub mod flagd;
#[cfg(any(feature = "flagd", feature = "json"))]
mod json;
#[cfg(feature = "json")]
mod json_output;
#[cfg(feature = "openfeature")]
#[cfg_attr(docsrs, doc(cfg(feature = "openfeature")))]
pub mod open_feature;
#[cfg(any(feature = "json", feature = "toml"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "json", feature = "toml"))))]
pub mod plan_file;
#[cfg(feature = "quanta")]
#[cfg_attr(docsrs, doc(cfg(feature = "quanta")))]
pub mod quanta;
#[cfg(feature = "stream")]
#[cfg_attr(docsrs, doc(cfg(feature = "stream")))]
pub mod stream;
