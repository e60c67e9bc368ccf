//! Manifests: one spelling, and no list that some device could not hold.

use std::collections::BTreeSet;

use burr_protocol::{
    Hash,
    manifest::{Content, Entry, Manifest, check_path},
};

use super::program::Program;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if kind % 2 == 0 {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode(), bytes, "a manifest has one spelling");
            assert_eq!(manifest.bundle(), Hash::of(bytes));
            check(&manifest);
        }
    } else if let Ok(manifest) = Manifest::new(entries(Program::new(bytes))) {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        check(&manifest);
    }
}

/// What must hold of any manifest, found out in another way than the reader does.
fn check(manifest: &Manifest) {
    let bytes = manifest.encode();
    let (files, total) = (manifest.files(), manifest.bytes());
    assert!(Manifest::decode_within(&bytes, files, total).is_ok());
    assert!(Manifest::decode_within(&bytes, files + 1, total).is_err());
    assert!(Manifest::decode_within(&bytes, files, total ^ 1).is_err());
    let mut folded = BTreeSet::new();
    let paths: BTreeSet<&str> = manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
    for entry in manifest.entries() {
        let path = entry.path.as_str();
        assert!(check_path(path).is_ok());
        assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        assert!(!path.contains(['\\', '\0', ':']));
        assert!(folded.insert(path.to_lowercase()), "{path:?} collides by case");
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        assert!(above.into_iter().all(|above| !paths.contains(above)), "{path:?} lies below a file");
        if let Content::Link { target } = &entry.content {
            let depth = path.matches('/').count();
            assert!(target.split('/').filter(|part| *part == "..").count() <= depth, "{path:?} leaves the bundle");
        }
    }
}

fn entries(mut program: Program<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    while !program.is_over() && entries.len() < 64 {
        let path = program.text();
        let content = match program.below(4) {
            0 => Content::Link { target: program.text() },
            kind => {
                let size = u64::from(program.short()) << (program.byte() % 48);
                Content::File { size, executable: kind == 1, hash: Hash::of(path.as_bytes()) }
            }
        };
        entries.push(Entry { path, content });
    }
    entries
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let file = |path: &str, size| Entry {
        path: path.to_owned(),
        content: Content::File { size, executable: size == 0, hash: Hash::of(path.as_bytes()) },
    };
    let link = |path: &str, target: &str| Entry {
        path: path.to_owned(),
        content: Content::Link { target: target.to_owned() },
    };
    let lists = [
        vec![file("index.html", 12)],
        vec![file("a/b/c.js", 1), file("a/b/d.css", 1 << 35), file("é.txt", 0), link("a/x", "b/c.js")],
        vec![file("lib/1/so", 5), link("lib/current", "1"), link("top", "lib/1/so"), file("z z", 3)],
    ];
    let mut seeds: Vec<Vec<u8>> = lists
        .into_iter()
        .map(|entries| [vec![0], Manifest::new(entries).expect("a sound list").encode()].concat())
        .collect();
    for names in [["a", "A"], ["a/b", "a"], ["CON.txt", "x"], ["e\u{301}", "\u{e9}"], ["ok/x", "ok/y"]] {
        let mut seed = vec![1];
        for name in names {
            seed.push(u8::try_from(name.len()).expect("short"));
            seed.extend([name.as_bytes(), &[2, 5, 0, 0]].concat());
        }
        seeds.push(seed);
    }
    seeds
}
