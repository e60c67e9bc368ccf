//! A bundle is packed, unpacked and verified; sources that change and payloads that lie come to nothing.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use burr_node::{
    Kind,
    bundle::{self, Fault, Packed},
};
use burr_protocol::{Hash, action::StageFailure};
use zip::write::SimpleFileOptions;

use crate::support::{SmallDisk, listing, noise, pack, scratch, small_app, tree};

fn unpack(payload: impl Read, into: &Path, packed: &Packed) -> Result<(), StageFailure> {
    bundle::unpack(payload, into, packed.bundle, packed.manifest.files(), packed.manifest.bytes())
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    fs::create_dir(source.join("nothing")).unwrap();
    let packed = pack(&source, &dir.path().join("payload"));
    let bytes = fs::read(&packed.path).unwrap();
    assert_eq!((Hash::of(&bytes), bytes.len() as u64), (packed.blob, packed.size));
    assert_eq!(packed.manifest.files(), 6);

    let slot = dir.path().join("slot");
    unpack(&bytes[..], &slot, &packed).unwrap();
    for path in ["index.html", "assets/app.js", "assets/deep/er/style.css", "bin/check", "empty"] {
        assert_eq!(fs::read(slot.join("tree").join(path)).unwrap(), fs::read(source.join(path)).unwrap());
    }
    assert_eq!(fs::read_link(slot.join("tree/bin/app")).unwrap(), Path::new("../assets/app.js"));
    let mode = |path: &str| fs::metadata(slot.join("tree").join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("bin/check"), mode("index.html"), mode("assets")), (0o755, 0o644, 0o755));

    let verdict = bundle::verify(&slot.join("tree"), &|_, _| ()).unwrap();
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert_eq!(verdict.bundle, packed.bundle);
}

#[test]
fn the_same_files_have_the_same_name_from_a_zip_archive() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    let archive = dir.path().join("app.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    let plain = SimpleFileOptions::default().unix_permissions(0o644);
    zip.add_directory("assets/", plain).unwrap();
    for path in ["assets/deep/er/style.css", "empty", "index.html", "assets/app.js"] {
        zip.start_file(path, plain).unwrap();
        zip.write_all(&fs::read(source.join(path)).unwrap()).unwrap();
    }
    zip.start_file("bin/check", plain.unix_permissions(0o755)).unwrap();
    zip.write_all(&fs::read(source.join("bin/check")).unwrap()).unwrap();
    zip.add_symlink("bin/app", "../assets/app.js", plain).unwrap();
    zip.finish().unwrap();

    let from_tree = pack(&source, &dir.path().join("a"));
    let from_zip = pack(&archive, &dir.path().join("b"));
    assert_eq!(from_tree.manifest, from_zip.manifest);
    unpack(fs::File::open(&from_zip.path).unwrap(), &dir.path().join("slot"), &from_tree).unwrap();
}

#[test]
fn a_source_that_changes_meanwhile_is_not_published() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("a file grows", |at| fs::write(at.join("b"), vec![1; 2000]).unwrap()),
        ("a file shrinks", |at| fs::write(at.join("b"), b"").unwrap()),
        ("a file goes", |at| fs::remove_file(at.join("b")).unwrap()),
        ("a file comes", |at| fs::write(at.join("c"), b"").unwrap()),
        ("a file becomes a directory", |at| {
            fs::remove_file(at.join("b")).unwrap();
            fs::create_dir(at.join("b")).unwrap();
        }),
        ("other bytes, with the same size and time", |at| {
            let modified = fs::metadata(at.join("b")).unwrap().modified().unwrap();
            let mut file = fs::File::options().write(true).open(at.join("b")).unwrap();
            file.write_all(&[7; 10]).unwrap();
            file.set_modified(modified).unwrap();
        }),
    ];
    for (what, change) in changes {
        let dir = scratch();
        let source = tree(&dir.path().join("source"), &[("a", &noise(1, 500_000)), ("b", &noise(2, 1000))]);
        let out = dir.path().join("payload");
        let hashed = |done: u64, total: u64| {
            if 2 * done == total {
                change(&source);
            }
        };
        let error = bundle::pack(&source, &out, &hashed).unwrap_err();
        assert!(matches!(error.kind(), Kind::Changed | Kind::BadInput), "{what}: {error:?}");
        assert!(!out.exists(), "{what}");
        if what != "a file becomes a directory" {
            assert_eq!(error.kind(), Kind::Changed, "{what}: {error:?}");
            assert!(error.hint().unwrap().contains("publish again"), "{what}");
        }
    }
}

#[test]
fn what_can_not_be_read_is_named() {
    let dir = scratch();
    let out = dir.path().join("payload");
    let error = bundle::pack(&dir.path().join("nowhere"), &out, &|_, _| ()).unwrap_err();
    assert!(error.kind() == Kind::BadInput && error.to_string().contains("nowhere"), "{error}");
    let text = tree(dir.path(), &[("text.zip", b"no archive")]).join("text.zip");
    let error = bundle::pack(&text, &out, &|_, _| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput, "{error}");

    // Nothing is unreadable for root, so this story goes on as somebody else.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let source = tree(&dir.path().join("source"), &[("fine", b"1"), ("secret", b"2")]);
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["bundle::unreadable_as_somebody_else", "--exact", "--ignored", "--nocapture"]);
    again.env("BURR_TEST_UNREADABLE", dir.path());
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        again.uid(65534).gid(65534);
    }
    let output = match again.output() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: this program can't be run by another user: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!out.exists());
}

#[test]
#[ignore = "run by what_can_not_be_read_is_named"]
fn unreadable_as_somebody_else() {
    let dir = env::var_os("BURR_TEST_UNREADABLE").expect("run by what_can_not_be_read_is_named");
    let error = bundle::pack(&Path::new(&dir).join("source"), &Path::new(&dir).join("payload"), &|_, _| ());
    let error = error.unwrap_err();
    assert!(error.kind() == Kind::BadInput && error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_payload_cut_anywhere_is_refused() {
    let dir = scratch();
    let packed = pack(&small_app(&dir.path().join("source"), "1"), &dir.path().join("payload"));
    let bytes = fs::read(&packed.path).unwrap();
    let before = listing(dir.path());
    for len in (0..64).chain((64..bytes.len()).step_by(997)).chain(bytes.len() - 16..bytes.len()) {
        let failure = unpack(&bytes[..len], &dir.path().join("slot"), &packed).unwrap_err();
        assert!(matches!(failure, StageFailure::Bad(_)), "cut at {len}: {failure:?}");
        assert_eq!(listing(dir.path()), before, "cut at {len}");
    }
}

#[test]
fn a_payload_altered_anywhere_is_refused_or_still_the_same_bundle() {
    let dir = scratch();
    let packed = pack(&small_app(&dir.path().join("source"), "1"), &dir.path().join("payload"));
    let bytes = fs::read(&packed.path).unwrap();
    let mut refused = 0;
    for at in (0..64).chain((64..bytes.len()).step_by(499)) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let slot = dir.path().join("slot");
        match unpack(&altered[..], &slot, &packed) {
            Err(StageFailure::Bad(_)) => {
                assert!(!slot.exists());
                refused += 1;
            }
            Err(other) => panic!("altered at {at}: {other:?}"),
            // A bit of the frame that says nothing of what is in it.
            Ok(()) => {
                assert!(bundle::verify(&slot, &|_, _| ()).unwrap().is_whole(), "altered at {at}");
                fs::remove_dir_all(&slot).unwrap();
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_payload_that_is_another_one_is_refused() {
    let dir = scratch();
    let packed = pack(&small_app(&dir.path().join("source"), "1"), &dir.path().join("payload"));
    let bytes = fs::read(&packed.path).unwrap();
    let (files, unpacked) = (packed.manifest.files(), packed.manifest.bytes());
    let slot = dir.path().join("slot");
    let refused = |bytes: &[u8], bundle: Hash, files: u64, unpacked: u64| {
        let failure = bundle::unpack(bytes, &slot, bundle, files, unpacked).unwrap_err();
        assert!(matches!(failure, StageFailure::Bad(_)), "{failure:?}");
        assert!(!slot.exists());
    };
    refused(&bytes, Hash::of(b"another"), files, unpacked);
    refused(&bytes, packed.bundle, files + 1, unpacked);
    refused(&bytes, packed.bundle, files, unpacked - 1);
    refused(&[&bytes[..], b"x"].concat(), packed.bundle, files, unpacked);
    refused(&[&bytes[..], &bytes[..]].concat(), packed.bundle, files, unpacked);

    // More in the frame than the manifest says; a manifest without an end; a window that takes too much memory.
    let inner = zstd::decode_all(&bytes[..]).unwrap();
    refused(&zstd::encode_all(&[&inner[..], b"x"].concat()[..], 3).unwrap(), packed.bundle, files, unpacked);
    refused(&zstd::encode_all(&[0xff; 64][..], 3).unwrap(), packed.bundle, files, unpacked);
    let mut wide = zstd::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(&inner).unwrap();
    refused(&wide.finish().unwrap(), packed.bundle, files, unpacked);
    assert_eq!(unpack(&zstd::encode_all(&inner[..], 1).unwrap()[..], &slot, &packed), Ok(()));
}

#[test]
fn a_store_that_fails_is_not_the_publishers_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let dir = scratch();
    let packed = pack(&small_app(&dir.path().join("source"), "1"), &dir.path().join("payload"));
    let bytes = fs::read(&packed.path).unwrap();
    let failure = unpack(bytes[..1000].chain(Broken), &dir.path().join("slot"), &packed).unwrap_err();
    assert!(matches!(&failure, StageFailure::Other(why) if why.contains("the disk is gone")), "{failure:?}");
    assert!(!dir.path().join("slot").exists());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let dir = scratch();
    let source = tree(&dir.path().join("source"), &[("a", &noise(1, 900_000)), ("b", &noise(2, 900_000))]);
    let error = bundle::pack(&source, &disk.path().join("payload"), &|_, _| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    assert_eq!(listing(disk.path()), Vec::<std::path::PathBuf>::new());

    let packed = pack(&source, &dir.path().join("payload"));
    let payload = fs::File::open(&packed.path).unwrap();
    let failure = unpack(payload, &disk.path().join("slot"), &packed).unwrap_err();
    assert!(matches!(failure, StageFailure::NoSpace(_)), "{failure:?}");
    assert_eq!(listing(disk.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn verify_names_what_was_altered() {
    let dir = scratch();
    let packed = pack(&small_app(&dir.path().join("source"), "1"), &dir.path().join("payload"));
    let slot = dir.path().join(packed.bundle.to_string());
    unpack(fs::File::open(&packed.path).unwrap(), &slot, &packed).unwrap();
    let at = slot.join("tree");
    fs::write(at.join("index.html"), b"<h1>x</h1>").unwrap();
    fs::remove_file(at.join("empty")).unwrap();
    fs::write(at.join("extra"), b"").unwrap();
    fs::create_dir(at.join("void")).unwrap();
    fs::set_permissions(at.join("bin/check"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(at.join("bin/app")).unwrap();
    std::os::unix::fs::symlink("../index.html", at.join("bin/app")).unwrap();
    let verdict = bundle::verify(&slot, &|_, _| ()).unwrap();
    let found: Vec<_> = verdict.findings.iter().map(|finding| (finding.path.as_str(), finding.fault)).collect();
    let expected = [
        ("bin/app", Fault::Altered),
        ("bin/check", Fault::Altered),
        ("empty", Fault::Missing),
        ("extra", Fault::Extra),
        ("index.html", Fault::Altered),
        ("void", Fault::Extra),
    ];
    assert_eq!(found, expected);

    // Altering the manifest with the files does not help: the slot's name fixes it.
    let other = pack(&tree(&dir.path().join("other"), &[("a", b"")]), &dir.path().join("other.burr"));
    fs::write(slot.join("manifest"), other.manifest.encode()).unwrap();
    assert_eq!(bundle::verify(&slot, &|_, _| ()).unwrap_err().kind(), Kind::BadInput);
    assert_eq!(bundle::verify(dir.path(), &|_, _| ()).unwrap_err().kind(), Kind::BadInput);
}

#[test]
fn a_single_file_is_a_bundle_of_itself() {
    let dir = scratch();
    let firmware = dir.path().join("firmware.bin");
    fs::write(&firmware, noise(7, 300_000)).unwrap();
    let packed = pack(&firmware, &dir.path().join("payload"));
    assert_eq!((packed.manifest.files(), packed.manifest.bytes()), (1, 300_000));
    let slot = dir.path().join("slot");
    unpack(fs::File::open(&packed.path).unwrap(), &slot, &packed).unwrap();
    assert_eq!(fs::read(slot.join("tree/firmware.bin")).unwrap(), noise(7, 300_000));

    // A link to the newest image gives its own name, and the image's bytes.
    let newest = dir.path().join("newest.bin");
    std::os::unix::fs::symlink("firmware.bin", &newest).unwrap();
    let packed = pack(&newest, &dir.path().join("linked"));
    assert_eq!((packed.manifest.files(), packed.manifest.bytes()), (1, 300_000));
    assert_eq!(packed.manifest.entries()[0].path, "newest.bin");
}
