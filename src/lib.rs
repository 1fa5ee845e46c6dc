//! Bring a new AI model safely into production, inside the server that already runs there.
//!
//! A [`Router`](serve::router::Router) answers requests with the model that serves today, and
//! gives a share of them to the candidate. A [`Pilot`](control::Pilot) takes the candidate through
//! a [`Plan`](rollout::plan::Plan): shadow, 5 %, 25 %, 50 %, 100 %, promoted. Each step is passed on
//! positive evidence only, and left backward by one atomic store.
//!
//! # Two planes
//!
//! Requests meet the rollout in one word ([`route::switch`]: which share, which slot) and leave
//! behind one record ([`observe`]: how the call ended). Everything that decides stands above and
//! apart: a request handler compiles without a line of hypothesis testing under it, and a rollback
//! runs no decision code.
//!
//! Decisions are machines ([`machine`]) that are told everything, the time included. A rollout of
//! five days is a millisecond of a test, and the same history gives the same verdict.
//!
//! # The floors
//!
//! | | |
//! |--|--|
//! | [`control`] | feeds the machines from the world and carries out what they say |
//! | [`rollout`] | a plan, and the machine that goes through it |
//! | [`strategy`] | one machine for each way to try a model |
//! | [`machine`] | what decisions hear and say |
//! | [`serve`], [`judge`] | answering requests; weighing evidence. Neither knows the other |
//! | [`observe`], [`model`], [`stream_model`] | what arms did, without locks; what a model is, and one that streams |
//! | [`route`], [`compare`], [`alert`], [`outcome`] | who is served by what; how alike outputs are; what people must know; how a call ended |
//! | [`stats`], [`clock`], [`ids`], [`share`] | answers about numbers; time, names and shares as values |
//!
//! # Yours to implement
//!
//! [`Model`](model::Model) (or [`SyncModel`](model::SyncModel)),
//! [`MetricsSink`](observe::sink::MetricsSink), [`TrafficSwitch`](route::switch::TrafficSwitch) and
//! [`Alerter`](alert::Alerter). Each has a default, and says on every method who calls it, from
//! which thread, whether it may block and what happens if it fails.
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
pub mod date;
pub mod ids;
pub mod outcome;
pub mod share;
pub mod stats;
mod sync;

pub mod alert;
pub mod compare;
pub mod drift;
pub mod route;

pub mod model;
pub mod observe;
pub mod stream_model;

pub mod judge;
pub mod serve;

pub mod machine;
pub mod strategy;

pub mod rollout;

pub mod control;
pub mod sim;

pub mod adapt;

/// The README's program, compiled and held to its types.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct ReadMe;
