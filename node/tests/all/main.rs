//! The node's parts, real: sockets, files and processes on this machine.

mod net;
