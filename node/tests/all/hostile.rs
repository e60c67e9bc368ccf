//! Sources made by an enemy: nothing is written anywhere, and the error says what is wrong.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::Path,
};

use burr_node::{Kind, bundle};
use zip::write::SimpleFileOptions;

use crate::support::{listing, scratch, tree};

/// One entry of an archive that no honest program would make: name, mode, general purpose flags.
pub(crate) type Entry<'a> = (&'a [u8], u32, u16);

/// A zip archive of empty entries, byte by byte, since writers refuse to make such names.
pub(crate) fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, mode, flags) in entries {
        let offset = u32::try_from(out.len()).unwrap();
        let length = u16::try_from(name.len()).unwrap();
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(flags.to_le_bytes());
        // Stored, without a time, a checksum or a size: all zero.
        common.extend([0; 18]);
        common.extend(length.to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(*name);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]);
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(*name);
    }
    close(out, &directory, entries.len())
}

/// Ends an archive by its directory of so many entries, in the form of ZIP64 where they are more than fit the plain one.
fn close(mut out: Vec<u8>, directory: &[u8], entries: usize) -> Vec<u8> {
    let (start, size) = (u32::try_from(out.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    out.extend(directory);
    if entries > usize::from(u16::MAX) {
        let end = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        out.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [entries as u64, entries as u64, size.into(), start.into()] {
            out.extend(number.to_le_bytes());
        }
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(end.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    let count = u16::try_from(entries).unwrap_or(u16::MAX);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// An archive of 70 KB that unpacks to ten gibibytes: a thousand names for one file of ten mebibytes of zeros.
pub(crate) fn bomb() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("zeros000", options).unwrap();
    zip.write_all(&vec![0; 10 << 20]).unwrap();
    let mut file = zip.finish().unwrap().into_inner();
    let at = file.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let record = file.split_off(at);
    let end = record.windows(4).rposition(|window| window == b"PK\x05\x06").unwrap();
    let name = record.windows(8).position(|window| window == b"zeros000").unwrap();
    let named = |number: usize| {
        let mut record = record[..end].to_vec();
        record[name..name + 8].copy_from_slice(format!("zeros{number:03}").as_bytes());
        record
    };
    close(file, &(0..1000).flat_map(named).collect::<Vec<u8>>(), 1000)
}

/// An archive that has a million empty files.
pub(crate) fn million() -> Vec<u8> {
    let names: Vec<String> = (0..1_000_000).map(|number| number.to_string()).collect();
    archive(&names.iter().map(|name| (name.as_bytes(), FILE, 0)).collect::<Vec<Entry<'_>>>())
}

pub(crate) const FILE: u32 = 0o100_644;

/// Packs an archive, which must be refused without a trace on disk.
fn refuse(bytes: &[u8], what: &str) -> String {
    let dir = scratch();
    let source = dir.path().join("source.zip");
    fs::write(&source, bytes).unwrap();
    fs::create_dir(dir.path().join("work")).unwrap();
    let before = listing(dir.path());
    let error = bundle::pack(&source, &dir.path().join("work/payload"), &|_, _| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput, "{what}: {error:?}");
    assert_eq!(listing(dir.path()), before, "{what}");
    error.to_string()
}

#[test]
fn an_honest_archive_made_the_same_way_is_taken() {
    let dir = scratch();
    let source = dir.path().join("source.zip");
    fs::write(&source, archive(&[(b"index.html", FILE, 0), (b"a/", 0o040_755, 0), (b"a/b", 0, 0)])).unwrap();
    let packed = bundle::pack(&source, &dir.path().join("payload"), &|_, _| ()).unwrap();
    assert_eq!(packed.manifest.files(), 2);
}

#[test]
fn no_name_in_an_archive_leads_out_of_it() {
    let outside = format!("/tmp/burr-escaped-{}", std::process::id());
    let long = "a".repeat(256);
    let deep = "d/".repeat(64) + "f";
    let longest = vec!["abcdefghi"; 110].join("/");
    let names: Vec<&[u8]> = vec![
        outside.as_bytes(),
        b"/",
        b"/etc/passwd",
        b"//server/share",
        b"..",
        b"../escaped",
        b"../../../../../../tmp/escaped",
        b"a/../../escaped",
        b"a/..",
        b"./a",
        b"a/./b",
        b".",
        b"",
        b"a//b",
        b"a/b//",
        b"..\\escaped",
        b"a\\b",
        b"\\\\server\\share",
        b"\\escaped",
        b"C:\\escaped",
        b"C:escaped",
        b"c:/escaped",
        b"a:stream",
        b"a\0b",
        b"a\nb",
        b"a\rb",
        b"\x1b[2J",
        b"a\x7f",
        b"CON",
        b"con.txt",
        b"a/NUL",
        b"aux.js",
        b"COM1",
        b"lpt9.log",
        b"a.",
        b"a ",
        b"dir./a",
        b"a*",
        b"a?",
        b"a|b",
        b"a<b>",
        b"\"a\"",
        b"\xff\xfe",
        b"caf\xe9",
        long.as_bytes(),
        deep.as_bytes(),
        longest.as_bytes(),
    ];
    assert!(names.len() >= 40);
    for name in &names {
        let shown = String::from_utf8_lossy(name).into_owned();
        refuse(&archive(&[(b"fine", FILE, 0), (name, FILE, 0x800)]), &shown);
        // The same as a directory, and as the directory of a file.
        refuse(&archive(&[(&[name, &b"/"[..]].concat(), 0o040_755, 0)]), &shown);
        refuse(&archive(&[(&[name, &b"/file"[..]].concat(), FILE, 0)]), &shown);
    }
    assert!(!Path::new(&outside).exists());
}

#[test]
fn what_is_no_plain_file_in_an_archive_is_refused() {
    for (kind, mode) in [("fifo", 0o010_644), ("socket", 0o140_755), ("block", 0o060_600), ("char", 0o020_600)] {
        refuse(&archive(&[(b"a", mode, 0)]), kind);
    }
    refuse(&archive(&[(b"a", 0o040_755, 0)]), "a directory named as a file");
    refuse(&archive(&[(b"a/", 0o120_777, 0)]), "a link named as a directory");
    refuse(&archive(&[(b"a", 0o120_777, 0)]), "a link to nothing");
    assert!(refuse(&archive(&[(b"a", FILE, 1)]), "encrypted").contains("encrypted"));
    assert!(refuse(&archive(&[(b"a", FILE, 0), (b"a", FILE, 0)]), "duplicate").contains("twice"));
    refuse(&archive(&[(b"A.js", FILE, 0), (b"a.js", FILE, 0)]), "case");
    refuse(&archive(&[("\u{e9}".as_bytes(), FILE, 0x800), ("e\u{301}".as_bytes(), FILE, 0x800)]), "Unicode");
    refuse(&archive(&[(b"a", FILE, 0), (b"a/b", FILE, 0)]), "a file that is a directory");
    refuse(&archive(&[]), "empty");
    refuse(b"PK\x05\x06", "cut short");
}

#[test]
fn links_in_an_archive_stay_in_it() {
    for target in ["/etc/passwd", "../outside", "../../etc", "b/../../x", "nowhere", ".", ""] {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default();
        zip.start_file("b/real", options).unwrap();
        zip.add_symlink("link", target, options).unwrap();
        // A file that would be written through the link.
        zip.start_file("link/passwd", options).unwrap();
        refuse(zip.finish().unwrap().get_ref(), target);
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("b/real", options).unwrap();
        zip.add_symlink("link", target, options).unwrap();
        refuse(zip.finish().unwrap().get_ref(), target);
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    let bytes = bomb();
    assert!(bytes.len() < 100_000, "{}", bytes.len());
    assert!(refuse(&bytes, "bomb").contains("bomb"));

    // The same with declared sizes that say little: what comes out counts, not what is said.
    let mut lying = bytes.clone();
    let size = (10_u32 << 20).to_le_bytes();
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == size {
            lying[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
    }
    assert_ne!(lying, bytes);
    refuse(&lying, "lying bomb");
}

#[test]
fn too_many_entries_are_refused_before_they_are_read() {
    let too_many = "it has 1000000 entries, the limit is 100000";
    let many = million();
    assert!(refuse(&many, "many").ends_with(too_many));
    // Whoever read the first of them would stumble.
    let mut broken = many;
    broken[..4].copy_from_slice(b"none");
    assert!(refuse(&broken, "many, and the first broken").ends_with(too_many));
}

#[test]
fn what_is_no_plain_file_in_a_directory_is_refused() {
    type Make = fn(&Path);
    let hostile: [(&str, Make); 16] = [
        ("named pipe", |at| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mkfifoat(rustix::fs::CWD, at.join("pipe"), mode).unwrap();
        }),
        ("socket", |at| drop(UnixListener::bind(at.join("socket")).unwrap())),
        ("not UTF-8", |at| fs::write(at.join(OsStr::from_bytes(b"\xff")), b"").unwrap()),
        ("backslash", |at| fs::write(at.join("a\\b"), b"").unwrap()),
        ("control character", |at| fs::write(at.join("a\nb"), b"").unwrap()),
        ("reserved", |at| fs::write(at.join("a:b"), b"").unwrap()),
        ("device name", |at| fs::write(at.join("con.js"), b"").unwrap()),
        ("trailing dot", |at| fs::write(at.join("a."), b"").unwrap()),
        ("trailing space", |at| fs::write(at.join("a "), b"").unwrap()),
        ("case", |at| drop(tree(at, &[("a", b""), ("A", b"")]))),
        ("Unicode", |at| drop(tree(at, &[("\u{e9}", b""), ("e\u{301}", b"")]))),
        ("absolute link", |at| symlink("/etc/passwd", at.join("a")).unwrap()),
        ("link that leaves", |at| symlink("../outside", at.join("a")).unwrap()),
        ("dangling link", |at| symlink("nowhere", at.join("a")).unwrap()),
        ("looping link", |at| symlink("a", at.join("a")).unwrap()),
        ("too deep", |at| fs::create_dir_all(at.join("d/".repeat(70))).unwrap()),
    ];
    for (what, make) in hostile {
        let dir = scratch();
        let source = tree(&dir.path().join("source"), &[("index.html", b"fine")]);
        make(&source);
        let before = listing(dir.path());
        let error = bundle::pack(&source, &dir.path().join("payload"), &|_, _| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput, "{what}: {error:?}");
        assert_eq!(listing(dir.path()), before, "{what}");
    }
    let dir = scratch();
    fs::create_dir(dir.path().join("source")).unwrap();
    let error = bundle::pack(&dir.path().join("source"), &dir.path().join("payload"), &|_, _| ()).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
}
