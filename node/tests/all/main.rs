<<<<<<< HEAD
//! The node's parts, real: sockets, files and processes on this machine.

mod net;
=======
//! Stories of the node's parts, as one program.

mod bundle;
mod health;
mod hostile;
mod publisher;
mod slots;
mod support;
>>>>>>> bundle
