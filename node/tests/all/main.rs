//! Every integration test of the node, in one binary.

mod attacks;
mod blobs;
mod bundle;
mod ceremony;
mod e2e;
mod health;
mod hostile;
mod member;
mod net;
mod publisher;
mod releases;
mod sealed;
mod slots;
mod support;
mod tuf;

/// Bytes that don't repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
