//! A real model behind HTTP, and its successor rolled out through Pilotage.

pub mod admin;
pub mod args;
pub mod arm;
pub mod client;
pub mod compare;
pub mod demo;
pub mod fault;
pub mod features;
pub mod framing;
pub mod http;
pub mod journals;
pub mod model;
pub mod pack;
pub mod page;
pub mod page_text;
pub mod present;
pub mod problem;
pub mod restart;
pub mod rollouts;
pub mod running;
pub mod service;
pub mod shadowed;
pub mod signals;
pub mod ticket;
