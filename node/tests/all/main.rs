//! Every integration test of the node, in one binary.

mod net;
