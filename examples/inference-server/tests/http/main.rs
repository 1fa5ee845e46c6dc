//! What users and operators may do wrong, over real HTTP: each gets a clear answer, nothing is
//! lost, and the server goes on.

mod ends;
mod load;
mod looks;
mod onnx;
mod process;
mod restarts;
mod server;
mod stage;
mod steering;
mod users;
