//! How fast a large build is packed, beside reading and hashing it: `cargo bench -p burr-node --bench publish`.
//!
//! 200 MB in 5,000 files that compress like source code. Argument: a directory to pack instead of a made one.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burr_node::bundle;
use burr_protocol::Hash;

const FILES: usize = 5_000;
const FILE: usize = 40_000;
const ROUNDS: usize = 5;

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let given = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let source = given.map_or_else(|| make(&dir.path().join("source")), PathBuf::from);
    for _ in 0..ROUNDS {
        let (bytes, read) = timed(|| read_and_hash(&source));
        let payload = dir.path().join("payload");
        let (packed, pack) = timed(|| bundle::pack(&source, &payload, &|_, _| ()).expect("a bundle"));
        let slot = dir.path().join("slot");
        let (files, unpacked) = (packed.manifest.files(), packed.manifest.bytes());
        let file = fs::File::open(&payload).expect("the payload");
        let ((), unpack) = timed(|| bundle::unpack(file, &slot, packed.bundle, files, unpacked).expect("a slot"));
        println!(
            "{files} files, {} MB to {} MB: read and hash on one core {read:?}, pack {pack:?}, unpack {unpack:?}",
            bytes / 1_000_000,
            packed.size / 1_000_000,
        );
        fs::remove_file(&payload).expect("the payload");
        fs::remove_dir_all(&slot).expect("the slot");
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

fn read_and_hash(source: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![source.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                open.push(entry.path());
            } else {
                let content = fs::read(entry.path()).expect("a file");
                bytes += content.len() as u64;
                std::hint::black_box(Hash::of(&content));
            }
        }
    }
    bytes
}

/// Lines of words drawn from a small vocabulary: what minified code is to a compressor.
fn make(source: &Path) -> PathBuf {
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for number in 0..FILES {
        let directory = source.join(format!("d{}", number % 100));
        fs::create_dir_all(&directory).expect("a directory");
        let mut text = String::with_capacity(FILE + 32);
        while text.len() < FILE {
            let (name, call) = (draw(3000), draw(200));
            let (member, index) = (draw(3000), draw(10));
            write!(text, "const v{name:x}=f{call:x}(this.v{member:x},{index});").expect("a text takes any text");
        }
        fs::write(directory.join(format!("{number}.js")), text).expect("a file");
    }
    source.to_owned()
}
