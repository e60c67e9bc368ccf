//! Manifests: one encoding each, and no name in them that some device can't hold.
//! Rule numbers are those of `protocol/README.md`.

use burr_protocol::{
    Hash,
    manifest::{
        Content, Entry, LinkProblem, MAX_BYTES, MAX_DEPTH, MAX_PATH, Manifest, ManifestError, PathProblem, check_path,
    },
};
use proptest::prelude::*;

fn file(path: &str) -> Entry {
    let hash = Hash::of(path.as_bytes());
    Entry { path: path.to_owned(), content: Content::File { size: 5, executable: false, hash } }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.to_owned(), content: Content::Link { target: target.to_owned() } }
}

fn files(paths: &[&str]) -> Result<Manifest, ManifestError> {
    Manifest::new(paths.iter().map(|path| file(path)).collect())
}

/// One of each kind, in a fixed order of insertion.
fn golden() -> Manifest {
    let run = Content::File { size: 9, executable: true, hash: Hash::of(b"run") };
    Manifest::new(vec![
        file("index.html"),
        Entry { path: "bin/run".to_owned(), content: run },
        link("bin/latest", "run"),
        file("ä/ö.css"),
        link("css", "ä"),
    ])
    .unwrap()
}

#[test]
fn the_golden_manifest_is_what_is_written_and_read() {
    let bytes = include_bytes!("../golden/manifest.bin");
    assert_eq!(golden().encode(), bytes, "§2.1");
    assert_eq!(Manifest::decode(bytes).unwrap(), golden());
    assert_eq!(golden().bundle(), Hash::of(bytes));
    let name = "6981f455a1f49506921685f2b801e220b06dbcf8c9a915e9d103438f48ca5f91";
    assert_eq!(golden().bundle().to_string(), name);
}

#[test]
fn a_manifest_sorts_counts_and_adds_up() {
    let manifest = golden();
    let paths: Vec<&str> = manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["bin/latest", "bin/run", "css", "index.html", "ä/ö.css"]);
    assert_eq!((manifest.files(), manifest.bytes()), (5, 19));
}

#[test]
fn the_release_must_declare_exactly_what_is_there() {
    let bytes = golden().encode();
    assert!(Manifest::decode_within(&bytes, 5, 19).is_ok(), "§2.7");
    for (files, unpacked) in [(4, 19), (6, 19), (5, 18), (5, 20)] {
        let error = Manifest::decode_within(&bytes, files, unpacked).unwrap_err();
        assert!(matches!(error, ManifestError::Declared { .. }), "{error}");
    }
}

#[test]
fn names_that_leave_the_tree_or_that_some_device_cannot_hold_are_refused() {
    use PathProblem::{
        Absolute, Backslash, ComponentTooLong, Control, Device, Dots, Empty, Reserved, TooDeep, TooLong, Trailing,
    };
    let component = "x".repeat(256);
    let long = format!("{}end", "directory/".repeat(MAX_PATH / 10 + 1));
    let deep = format!("{}end", "d/".repeat(MAX_DEPTH));
    let corpus: &[(&str, PathProblem)] = &[
        ("/etc/passwd", Absolute),
        ("C:/x", Absolute),
        ("c:x", Absolute),
        ("C:\\x", Absolute),
        ("\\\\server\\share", Absolute),
        ("//server/share", Absolute),
        ("/", Absolute),
        ("a\\b", Backslash),
        ("..\\x", Backslash),
        ("a\0b", Control),
        ("a\nb", Control),
        ("\u{7f}", Control),
        ("\u{85}", Control),
        (".", Dots),
        ("..", Dots),
        ("../x", Dots),
        ("a/../b", Dots),
        ("a/..", Dots),
        ("./a", Dots),
        ("a/./b", Dots),
        ("", Empty),
        ("a//b", Empty),
        ("a/", Empty),
        (&long, TooLong),
        (&component, ComponentTooLong),
        (&deep, TooDeep),
        ("ab:c", Reserved),
        ("file.txt:stream", Reserved),
        ("a<b", Reserved),
        ("a>b", Reserved),
        ("a\"b", Reserved),
        ("a|b", Reserved),
        ("a?", Reserved),
        ("*", Reserved),
        ("a.", Trailing),
        ("a ", Trailing),
        ("a./b", Trailing),
        ("dir /x", Trailing),
        ("...", Trailing),
        ("CON", Device),
        ("a/nul", Device),
        ("Aux.js", Device),
        ("COM1.tar.gz", Device),
        ("lpt²", Device),
        ("CONOUT$", Device),
        ("prn/x", Device),
        ("com0", Device),
    ];
    for (path, expected) in corpus {
        match check_path(path) {
            Err(ManifestError::Path { problem, .. }) => assert_eq!(problem, *expected, "§2.3 {path:?}"),
            other => panic!("{path:?}: {other:?}"),
        }
        assert!(files(&["good", path]).is_err(), "{path:?}");
    }
    for path in ["a", ".well-known/x", "a b/c d", "..a", "a..b", "ünï/ço∂e", "console.js", "👩‍👧.png", "$x!'(){}"]
    {
        assert_eq!(check_path(path), Ok(()), "{path:?}");
    }
}

#[test]
fn names_that_are_one_name_somewhere_are_refused() {
    for (a, b) in [
        ("a.js", "A.js"),
        ("caf\u{e9}", "cafe\u{301}"),
        ("CAF\u{c9}", "cafe\u{301}"),
        ("A/x", "a/y"),
        ("x/A/1", "x/a/2"),
        ("stra\u{df}e", "STRASSE"),
        ("\u{212a}", "k"),
        ("a", "a\u{200b}"),
        ("A", "a/b"),
    ] {
        let error = files(&[a, b]).unwrap_err();
        assert!(matches!(error, ManifestError::Collision { .. }), "§2.4 {a:?} {b:?}: {error}");
        assert!(files(&["m", b, "z/z", a]).is_err());
    }
    assert!(files(&["a/x", "b/X", "c/x"]).is_ok(), "the same name in two directories");
    assert_eq!(files(&["a", "b", "a"]), Err(ManifestError::Duplicate("a".to_owned())));
    for paths in [&["a", "a/b"][..], &["a", "a-b", "a.b", "a/b"], &["x/a/b/c", "x/a"]] {
        assert!(matches!(files(paths), Err(ManifestError::FileAndDirectory(_))), "{paths:?}");
    }
    assert_eq!(
        Manifest::new(vec![link("a", "b"), file("a/x"), file("b")]),
        Err(ManifestError::FileAndDirectory("a".to_owned()))
    );
}

#[test]
fn links_stay_in_the_tree_and_point_to_what_is_there() {
    use LinkProblem::{Dangling, Leaves, Loop, NotPlain, ToLink};
    let tree = |path: &str, target: &str| {
        Manifest::new(vec![file("a/b/c"), file("a/d"), file("top"), link("a/to-d", "d"), link(path, target)])
    };
    for (path, target) in [("l", "top"), ("l", "a/b"), ("a/l", "../top"), ("a/b/l", "../../a/d"), ("a/b/l", "c")] {
        assert!(tree(path, target).is_ok(), "§2.5 {path} -> {target}");
    }
    for (path, target, expected) in [
        ("l", "../top", Leaves),
        ("a/l", "../../../etc/passwd", Leaves),
        ("l", "/etc/passwd", NotPlain),
        ("l", "a/../top", NotPlain),
        ("l", "./top", NotPlain),
        ("l", "", NotPlain),
        ("l", "a\\d", NotPlain),
        ("l", "C:/x", Dangling),
        ("l", "gone", Dangling),
        ("l", "to", Dangling),
        ("l", "a/to-d/x", Dangling),
        ("l", "a/to-d", ToLink),
        ("l", "l", ToLink),
        ("a/l", "../a", Loop),
        ("a/b/l", "../../a", Loop),
        ("a/l", "..", Loop),
    ] {
        match tree(path, target) {
            Err(ManifestError::Link { problem, .. }) => assert_eq!(problem, expected, "§2.5 {path} -> {target}"),
            other => panic!("{path} -> {target}: {other:?}"),
        }
    }
}

#[test]
fn a_bundle_has_at_least_one_file_and_no_more_than_its_limits() {
    assert_eq!(Manifest::new(Vec::new()), Err(ManifestError::Empty));
    let sized = |path: &str, size| Entry {
        path: path.to_owned(),
        content: Content::File { size, executable: false, hash: Hash::of(b"") },
    };
    assert!(Manifest::new(vec![sized("a", MAX_BYTES)]).is_ok(), "§2.6");
    for sizes in [[MAX_BYTES, 1], [u64::MAX, u64::MAX]] {
        let error = Manifest::new(vec![sized("a", sizes[0]), sized("b", sizes[1])]).unwrap_err();
        assert!(matches!(error, ManifestError::TooMuch { .. }), "{error}");
    }
    let many = (0..=100_000).map(|n| file(&n.to_string())).collect();
    assert!(matches!(Manifest::new(many), Err(ManifestError::TooMuch { value: 100_001, .. })));
    let mut claims_many = b"burr manifest 1\n".to_vec();
    claims_many.extend([0, 1, 0, 0]);
    assert!(matches!(Manifest::decode(&claims_many), Err(ManifestError::Malformed { .. })));
}

#[test]
fn a_decoder_takes_no_second_encoding() {
    let good = files(&["a", "b"]).unwrap().encode();
    let one = good.len() - 20;
    let entry = one / 2;
    let (head, entries) = good.split_at(20);
    let (a, b) = entries.split_at(entry);
    let swapped = [head, b, a].concat();
    let doubled = [head, a, a].concat();
    let trailing = [&good[..], &[0]].concat();
    let cut = good[..good.len() - 1].to_vec();
    let mut kind = good.clone();
    kind[20] = 3;
    let mut version = good.clone();
    version[14] = b'2';
    for bytes in [swapped, doubled, trailing, cut, kind, version, Vec::new()] {
        assert!(Manifest::decode(&bytes).is_err(), "§2.2");
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-cA-C]{1,2}", "[a-z0-9]{1,6}\\.[a-z]{1,3}", "[äöüß]{1,3}"]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let content = (any::<u32>(), any::<bool>(), any::<[u8; 32]>()).prop_map(|(size, executable, hash)| Content::File {
        size: size.into(),
        executable,
        hash: Hash(hash),
    });
    let path = proptest::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"));
    let entry = (path, content).prop_map(|(path, content)| Entry { path, content });
    proptest::collection::vec(entry, 1..12)
}

proptest! {
    #[test]
    fn whatever_is_a_manifest_round_trips(entries in entries()) {
        if let Ok(manifest) = Manifest::new(entries) {
            let bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(at in any::<proptest::sample::Index>(), byte: u8) {
        let mut bytes = golden().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&bytes);
        let mut behind_magic = b"burr manifest 1\n\0\0\0\x02".to_vec();
        behind_magic.extend(&bytes);
        if let Ok(manifest) = Manifest::decode(&behind_magic) {
            prop_assert_eq!(manifest.encode(), behind_magic);
        }
    }

    #[test]
    fn arbitrary_paths_never_panic(path: String, target: String) {
        let _ = Manifest::new(vec![file(&path), link("l", &target), link(&path, "l")]);
    }
}
