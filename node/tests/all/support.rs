//! What several stories need.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use burr_node::bundle::{self, Packed};
use tempfile::TempDir;

/// An empty directory that goes with its value.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes files below a directory and returns it.
pub(crate) fn tree(at: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    for (path, bytes) in files {
        let file = at.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    at.to_owned()
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// A small app: nested files, an executable, an empty file and a link.
pub(crate) fn small_app(at: &Path, version: &str) -> PathBuf {
    let source = tree(
        at,
        &[
            ("index.html", format!("<h1>{version}</h1>").as_bytes()),
            ("assets/app.js", &noise(version.len() as u64, 40_000)),
            ("assets/deep/er/style.css", b"body { color: teal }".repeat(500).as_slice()),
            ("bin/check", b"#!/bin/sh\nexit 0\n"),
            ("empty", b""),
        ],
    );
    fs::set_permissions(source.join("bin/check"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("../assets/app.js", source.join("bin/app")).unwrap();
    source
}

pub(crate) fn pack(source: &Path, out: &Path) -> Packed {
    bundle::pack(source, out, &|_, _| ()).unwrap()
}

/// A file system of one MiB or another size, for as long as the value lives; `None` without the right to mount one.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn new() -> Option<Self> {
        Self::of_mib(1)
    }

    pub(crate) fn of_mib(size: u64) -> Option<Self> {
        let at = scratch();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}m"), "burr-test"]).arg(at.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: a full disk needs the right to mount a small one");
        }
        mounted.then_some(Self(at))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// All that is below a directory, for comparisons.
pub(crate) fn listing(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![at.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
