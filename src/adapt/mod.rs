//! Connections to other crates and formats: one each, behind a feature of its own.

#[cfg(feature = "flagd")]
#[cfg_attr(docsrs, doc(cfg(feature = "flagd")))]
pub mod flagd;
#[cfg(feature = "flagd")]
mod json;
#[cfg(feature = "openfeature")]
#[cfg_attr(docsrs, doc(cfg(feature = "openfeature")))]
pub mod open_feature;
