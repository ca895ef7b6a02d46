//! Every proof that needs the whole house, in one binary: each test binary would link the engine again.

mod conformance;
mod goldens;
mod layers;
mod manual;
mod process;
mod server;
mod shop;
mod wire;
