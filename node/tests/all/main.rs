//! The node's parts, real: sockets, files and processes on this machine.

mod bundle;
mod health;
mod hostile;
mod net;
mod publisher;
mod slots;
mod support;
