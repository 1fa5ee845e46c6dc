//! A real model behind HTTP, and its successor rolled out through Pilotage.

pub mod args;
pub mod arm;
pub mod client;
pub mod compare;
pub mod demo;
pub mod fault;
pub mod features;
pub mod framing;
pub mod http;
pub mod model;
pub mod pack;
pub mod problem;
pub mod running;
pub mod service;
pub mod shadowed;
pub mod ticket;
