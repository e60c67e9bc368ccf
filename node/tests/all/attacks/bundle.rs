//! Payloads that no publisher's tool makes, signed with the publisher's own key: what a device does with them.

use std::{fs, os::unix::fs::MetadataExt as _, sync::LazyLock};

use burr_protocol::{
    Hash,
    fact::{Fact, UpdateStep},
};

use super::{
    Desk, Device, EPOCH, Hands,
    floods::Victim,
    shop::{Shop, bytes_below},
};
use crate::support::noise;

/// An entry of a manifest as bytes: kind, path, and a file's contents or a link's target.
type Entry<'a> = (u8, &'a [u8], &'a [u8]);

/// A manifest by the letter of §2.1, whatever its entries are.
fn manifest(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = b"burr manifest 1\n".to_vec();
    bytes.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
    for (kind, path, contents) in entries {
        bytes.push(*kind);
        bytes.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
        bytes.extend(*path);
        if *kind == 2 {
            bytes.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
            bytes.extend(*contents);
        } else {
            bytes.extend((contents.len() as u64).to_be_bytes());
            bytes.extend(Hash::of(contents).0);
        }
    }
    bytes
}

/// The payload of such a manifest, and the bundle's name.
fn payload(entries: &[Entry<'_>]) -> (Vec<u8>, Hash) {
    let manifest = manifest(entries);
    let mut bytes = u32::try_from(manifest.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(&manifest);
    for (kind, _, contents) in entries {
        if *kind != 2 {
            bytes.extend(*contents);
        }
    }
    (zstd::encode_all(&bytes[..], 3).unwrap(), Hash::of(&manifest))
}

/// A device that has version 1.0.0 of a shop, and the shop.
struct Story {
    desk: Desk,
    shop: Shop,
    device: Device,
    count: u32,
}

impl Story {
    async fn begin() -> Self {
        let desk = Desk::new();
        let mut shop = Shop::open(EPOCH);
        shop.release("1.0.0");
        let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
        device.import(&shop).await;
        device.hear_active("1.0.0").await;
        Self { desk, shop, device, count: 1 }
    }

    /// Releases these bytes, signed by the right key, which must come to nothing; returns why.
    async fn fails(&mut self, what: &str, bundle: Hash, files: u64, unpacked: u64, bytes: &[u8]) -> String {
        self.count += 1;
        let version = format!("{}.0.0", self.count);
        self.shop.release_bytes(&version, bundle, files, unpacked, bytes);
        let outside = |desk: &Desk| -> Vec<_> {
            let apps = desk.at("device/apps");
            let found = bytes_below(desk.0.path()).into_iter().map(|(path, _)| path);
            found.filter(|path| path.starts_with(&apps) || !path.starts_with(desk.at("device"))).collect()
        };
        let before = outside(&self.desk);
        self.device.import(&self.shop).await;
        let failure = format!("{what} fails");
        let why = self.device.hear(&failure, |fact| match fact {
            Fact::Update { version: told, step: UpdateStep::Failed { why, again: false }, .. } if *told == version => {
                Some(why.clone())
            }
            Fact::Update { version: told, step: UpdateStep::Active, .. } if *told == version => {
                panic!("{what} was installed")
            }
            _ => None,
        });
        let why = why.await;
        assert_eq!(outside(&self.desk), before, "{what}");
        assert_eq!(self.device.active().await.as_deref(), Some("1.0.0"), "{what}");
        why
    }

    async fn fails_with(&mut self, what: &str, entries: &[Entry<'_>]) -> String {
        let (bytes, bundle) = payload(entries);
        let unpacked = entries.iter().filter(|entry| entry.0 != 2).map(|entry| entry.2.len() as u64).sum();
        self.fails(what, bundle, entries.len() as u64, unpacked, &bytes).await
    }

    /// The next good version is taken.
    async fn ends_well(mut self) {
        self.count += 1;
        let version = format!("{}.0.0", self.count);
        self.shop.release(&version);
        self.device.import(&self.shop).await;
        self.device.hear_active(&version).await;
        self.device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t33_no_name_in_a_signed_bundle_leads_out_of_its_slot() {
    let mut story = Story::begin().await;
    let long = [b'a'; 256];
    let names: [&[u8]; 24] = [
        b"../escaped",
        b"/tmp/escaped",
        b"a/../../escaped",
        b"..",
        b".",
        b"",
        b"a//b",
        b"./a",
        b"a/",
        b"a\\b",
        b"C:\\escaped",
        b"C:escaped",
        b"\\\\server\\share",
        b"a\0b",
        b"a\nb",
        b"CON",
        b"nul.txt",
        b"com1.js",
        b"a.",
        b"a ",
        b"a:stream",
        b"\xff\xfe",
        b"\x1b[2J",
        &long,
    ];
    for name in names {
        story.fails_with(&String::from_utf8_lossy(name), &[(0, name, b"escaped")]).await;
    }
    story.ends_well().await;
}

/// A payload of 320 KiB, and its bundle: ten gibibytes of zeros behind a small file. Written by the letter of RFC 8878, as
/// no compressor is in a hurry to: a frame with a window of 8 MiB, a block of bytes, and blocks of one byte many times.
static BOMB: LazyLock<(Vec<u8>, Hash)> = LazyLock::new(|| {
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    const BLOCK: u32 = 128 << 10;
    let block =
        |kind: u32, size: u32, last: bool| (size << 3 | kind << 1 | u32::from(last)).to_le_bytes()[..3].to_vec();
    let whole = manifest(&[(0, b"index.html", b"small")]);
    let begin = [&u32::try_from(whole.len()).unwrap().to_be_bytes()[..], &whole, b"small"].concat();
    let mut bomb = [&0xfd2f_b528_u32.to_le_bytes()[..], &[0, 13 << 3]].concat();
    bomb.extend(block(RAW, u32::try_from(begin.len()).unwrap(), false));
    bomb.extend(begin);
    for left in (0..TEN_GIB / u64::from(BLOCK)).rev() {
        bomb.extend(block(REPEATED, BLOCK, left == 0));
        bomb.push(0);
    }
    (bomb, Hash::of(&whole))
});
const TEN_GIB: u64 = 10 << 30;

/// A bundle of a million empty files that says what it is: its manifest of 50 MB, and its payload.
static MILLION: LazyLock<(Vec<u8>, Hash)> = LazyLock::new(|| {
    let names: Vec<String> = (0..1_000_000).map(|number| format!("{:03}/{number:06}", number / 1000)).collect();
    payload(&names.iter().map(|name| (0, name.as_bytes(), &b""[..])).collect::<Vec<Entry<'_>>>())
});

#[tokio::test(flavor = "multi_thread")]
async fn t34_bombs_cost_a_device_little_memory() {
    let desk = Desk::new();
    let mut victim = Victim::start(&desk).await;
    // It is no bomb that fizzles: whoever reads on gets ten gibibytes.
    let mut all = zstd::Decoder::new(&BOMB.0[..]).unwrap();
    assert!(std::io::copy(&mut all, &mut std::io::sink()).unwrap() > TEN_GIB);
    for (version, (bomb, bundle), files, unpacked) in [("1.5.0", &*BOMB, 1, 5), ("1.6.0", &*MILLION, 100_000, 0)] {
        victim.shop.release_bytes(version, *bundle, files, unpacked, bomb);
        victim.kiosk.import(&victim.shop).await;
        victim.reports(version).await;
    }
    victim.survived("bombs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t34_a_payload_that_grows_beyond_its_release_stops_there() {
    let mut story = Story::begin().await;
    // What comes after the file is not written anywhere.
    let (bomb, bundle) = &*BOMB;
    story.fails("a bomb", *bundle, 1, 5, bomb).await;
    // A manifest that says it is four gigabytes itself, and a release that allows a million files.
    let mut endless = u32::MAX.to_be_bytes().to_vec();
    endless.extend(noise(1, 100_000));
    story.fails("an endless manifest", Hash::of(b""), 1, 5, &zstd::encode_all(&endless[..], 3).unwrap()).await;
    // A window of a gigabyte, which a decoder would have to hold.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(30).unwrap();
    wide.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut wide, &noise(2, 100_000)).unwrap();
    story.fails("a wide window", Hash::of(b""), 1, 5, &wide.finish().unwrap()).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t03_a_bundle_brings_nothing_that_its_release_does_not_name() {
    let mut story = Story::begin().await;
    let entries: [Entry<'_>; 2] = [(0, b"index.html", b"page"), (0, b"second.bundle", b"another")];
    let (bytes, bundle) = payload(&entries);
    story.fails("one file more", bundle, 1, 11, &bytes).await;
    story.fails("bytes more", bundle, 2, 10, &bytes).await;
    // Files behind those of the manifest.
    let (one, only) = payload(&entries[..1]);
    let mut more = zstd::decode_all(&one[..]).unwrap();
    more.extend(b"another");
    story.fails("contents more", only, 1, 4, &zstd::encode_all(&more[..], 3).unwrap()).await;
    story.fails("a second frame", only, 1, 4, &[&one[..], &bytes[..]].concat()).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t35_t36_only_plain_files_with_names_that_every_device_can_tell_apart() {
    let mut story = Story::begin().await;
    for kind in [3, 4, 6, 255] {
        story.fails_with(&format!("kind {kind}"), &[(kind, b"a", b"x")]).await;
    }
    for target in [&b"/etc/passwd"[..], b"../outside", b"a", b"nowhere", b"."] {
        let entries: [Entry<'_>; 2] = [(2, b"a", target), (0, b"b/real", b"x")];
        story.fails_with(&format!("a link to {}", String::from_utf8_lossy(target)), &entries).await;
    }
    let pairs: [[&str; 2]; 5] =
        [["A.js", "a.js"], ["cafe\u{301}", "caf\u{e9}"], ["A/x", "a/y"], ["a", "a/b"], ["a", "a"]];
    for [first, second] in pairs {
        let entries: [Entry<'_>; 2] = [(0, first.as_bytes(), b"1"), (0, second.as_bytes(), b"2")];
        story.fails_with(&format!("{first} and {second}"), &entries).await;
    }
    let unsorted: [Entry<'_>; 2] = [(0, b"b", b"1"), (0, b"a", b"2")];
    story.fails_with("not in order", &unsorted).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t38_files_that_were_swapped_while_the_device_was_off_are_found_at_its_start() {
    let story = Story::begin().await;
    let Story { desk, mut shop, mut device, .. } = story;
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    let page = device.current().join("index.html");
    device.stop().await;
    let true_page = fs::read(&page).unwrap();
    // The same size and the same times: only its bytes tell.
    let modified = fs::metadata(&page).unwrap().modified().unwrap();
    fs::write(&page, noise(3, true_page.len())).unwrap();
    fs::File::options().write(true).open(&page).unwrap().set_modified(modified).unwrap();
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    let why = device.hear("the alteration", |fact| match fact {
        Fact::Update { version, step: UpdateStep::Failed { why, again: true }, .. } if version == "2.0.0" => {
            Some(why.clone())
        }
        _ => None,
    });
    assert!(why.await.contains("index.html was altered since it was staged"));
    // Nobody is there to ask: it is made anew from the verified payload that is here.
    device.hear_active("2.0.0").await;
    assert_eq!(fs::read(&page).unwrap(), true_page);
    device.stop().await;

    // Without the payload the version before it stands in.
    fs::write(&page, b"swapped").unwrap();
    fs::remove_dir_all(desk.at("device/blobs")).unwrap();
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    device
        .hear("2.0.0 is wanted again", |fact| {
            matches!(fact, Fact::Update { step: UpdateStep::Chosen, .. }).then_some(())
        })
        .await;
    assert_eq!(fs::read(device.current().join("index.html")).unwrap(), b"<h1>1.0.0</h1>");
    assert_eq!(device.active().await.as_deref(), Some("1.0.0"));
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    assert_eq!(fs::read(&page).unwrap(), true_page);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t38_files_that_are_swapped_between_their_check_and_their_use_are_found() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let data = desk.at("device");
    let mut device = Device::start(&data, shop.id(), &Hands::at(EPOCH), &[]).await;
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    let page = device.current().join("index.html");
    // The new version swaps its own page while it is judged, and the device is cut off before it decides.
    let health = [("health", "chmod u+w index.html && echo swapped > index.html && sleep 1000")];
    let page = fs::canonicalize(page).unwrap();
    device.stop().await;
    let mut device = Device::start(&data, shop.id(), &Hands::at(EPOCH), &health).await;
    shop.release("2.0.0");
    device.import(&shop).await;
    device
        .hear("2.0.0 on trial", |fact| matches!(fact, Fact::Update { step: UpdateStep::OnTrial, .. }).then_some(()))
        .await;
    let tried = fs::canonicalize(device.current().join("index.html")).unwrap();
    while fs::read(&tried).unwrap() != b"swapped\n" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    device.stop().await;
    let mut device = Device::start(&data, shop.id(), &Hands::at(EPOCH), &health).await;
    let why = device.hear("the way back", |fact| match fact {
        Fact::Update { step: UpdateStep::RolledBack { to, why }, .. } if to.as_deref() == Some("1.0.0") => {
            Some(why.clone())
        }
        _ => None,
    });
    assert!(why.await.contains("index.html was altered since it was staged"));
    assert_eq!(fs::canonicalize(device.current().join("index.html")).unwrap(), page);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_a_hundred_thousand_empty_files_is_the_largest_there_is() {
    let mut story = Story::begin().await;
    let names: Vec<String> = (0..=100_000).map(|number| format!("{:03}/{number:06}", number / 1000)).collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|name| (0, name.as_bytes(), &b""[..])).collect();
    // One too many: the release itself says so, and its document is refused.
    let (bytes, bundle) = payload(&entries);
    let why = story.fails("one too many", bundle, 100_000, 0, &bytes).await;
    assert!(why.contains("100001"), "{why}");
    let (bytes, bundle) = &*MILLION;
    let why = story.fails("a million", *bundle, 100_000, 0, bytes).await;
    assert!(why.contains("1000000"), "{why}");
    let (bytes, bundle) = payload(&entries[..100_000]);
    story.shop.release_bytes("100.0.0", bundle, 100_000, 0, &bytes);
    story.device.import(&story.shop).await;
    story.device.hear_active("100.0.0").await;
    let files = fs::read_dir(story.device.current()).unwrap().count();
    assert_eq!(files, 100);
    let mode = fs::metadata(story.device.current().join("099/099999")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);
    story.device.stop().await;
}
