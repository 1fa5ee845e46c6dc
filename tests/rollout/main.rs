//! What a rollout promises, told to the machine and nothing else: no clock, no router, no thread.

mod ab_stage;
mod holds;
mod journey;
mod orders;
mod properties;
mod world;
