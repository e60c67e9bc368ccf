//! Peers that lie, hold back, flood or never end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash, RepositoryId, Wall,
    config::Choice,
    fact::Fact,
    fetch::PieceMap,
    peers::{Address, Lie},
    release::Release,
    trust::pack::Pack,
    wire::{Announcement, Digest, Holding, MAX_MESSAGE, Message, MetadataVersion},
};
use libp2p::{Stream, futures::AsyncWriteExt as _};

use super::{
    DAY, Desk, Device, EPOCH, Hands,
    raw::{self, Raw},
    rogue::Rogue,
    shop::{Bent, Shop, bent, in_words, key, next},
};
use crate::support::noise;

/// The answer's first byte: what was asked is here.
const FOUND: u8 = 1;
const MIB: usize = 1 << 20;
/// From when another has it, a provider that drips is not waited for longer.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// Says that a peer follows a repository and has all of a release's payload.
async fn lure(stream: &mut Stream, repository: RepositoryId, release: &Release) {
    let digest = Digest { follows: vec![repository], ..Digest::default() };
    assert!(raw::say(stream, &Message::Digest(digest)).await);
    let (blob, size) = (release.payload.blob, release.payload.size);
    assert!(raw::say(stream, &Message::Holds { blob, size, pieces: PieceMap::All }).await);
}

/// Where a fetched blob's bytes came from.
async fn sources(device: &mut Device, release: &Release) -> Vec<(burr_protocol::NodeId, u64)> {
    let blob = release.payload.blob;
    device
        .hear("the payload", |fact| match fact {
            Fact::FetchCompleted { blob: told, sources, .. } if *told == blob => Some(sources.clone()),
            _ => None,
        })
        .await
}

/// A shop, and a device that has its metadata and looks for its payload. It gives up and asks again sooner than usual.
async fn fetching(desk: &Desk, size: usize) -> (Shop, Release, Device) {
    fetching_as(desk, size, &[("tuning.patience", "500ms"), ("tuning.search_interval", "200ms")]).await
}

/// The same, of a device with these settings.
async fn fetching_as(desk: &Desk, size: usize, settings: &[(&str, &str)]) -> (Shop, Release, Device) {
    let mut shop = Shop::open(EPOCH);
    let release = shop.release_tree("stable", "1.0.0", &[("data", &noise(1, size))]);
    let clock = Hands::at(EPOCH);
    let app = [("install", "stable")];
    let mut device = Device::start_with(&desk.at("device"), shop.id(), &clock, &app, settings).await;
    device.node.import(shop.id(), shop.pack(), Vec::new()).await.unwrap();
    device.hear("the payload is looked for", |fact| matches!(fact, Fact::FetchStarted { .. }).then_some(())).await;
    (shop, release, device)
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_nine_of_ten_providers_are_bad_and_the_tenth_is_enough() {
    let desk = Desk::new();
    let (shop, release, mut device) = fetching(&desk, 4 * MIB).await;
    let mut bad = Vec::new();
    for _ in 0..9 {
        let mut raw = Raw::connect(&device.address()).await;
        let size = release.payload.size;
        raw.provide(move |mut stream| async move {
            let mut answer = vec![FOUND];
            answer.extend(size.to_le_bytes());
            answer.extend(vec![7; MIB]);
            let _ = stream.write_all(&answer).await;
            let _ = stream.close().await;
        });
        let mut sync = raw.open_sync().await;
        lure(&mut sync, shop.id(), &release).await;
        let (lie, _) = device.hear_refused(raw.id()).await;
        assert_eq!(lie, Lie::AlteredBytes);
        bad.push((raw, sync));
    }
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &Hands::at(EPOCH), Some(&device)).await;
    kiosk.import(&shop).await;
    assert_eq!(sources(&mut device, &release).await, [(kiosk.id(), release.payload.size)]);
    device.hear_active("1.0.0").await;
    // The publisher is not blamed, nor is who was honest.
    assert_eq!(device.status().await.refused.len(), 9);
    for (raw, _) in bad {
        raw.end().await;
    }
    device.stop().await;
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t09_a_provider_that_drips_is_left_for_one_that_does_not() {
    let desk = Desk::new();
    let (shop, release, mut device) = fetching_as(&desk, 2 * MIB, &[]).await;
    let mut raw = Raw::connect(&device.address()).await;
    let size = release.payload.size;
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    raw.provide(move |mut stream| {
        let asked = asked.clone();
        async move {
            let _ = asked.send(());
            let mut answer = vec![FOUND];
            answer.extend(size.to_le_bytes());
            // A byte a second, so that it is never silent.
            for byte in answer.into_iter().chain(std::iter::repeat(0)) {
                if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let mut sync = raw.open_sync().await;
    lure(&mut sync, shop.id(), &release).await;
    tokio::time::timeout(super::DEADLINE, was_asked.recv()).await.expect("it is asked").unwrap();
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &Hands::at(EPOCH), Some(&device)).await;
    kiosk.import(&shop).await;
    let begun = Instant::now();
    assert_eq!(sources(&mut device, &release).await, [(kiosk.id(), size)]);
    let took = begun.elapsed();
    eprintln!("the one that drips was left within {took:?}");
    assert!(took < LEFT_WITHIN, "it was left after {took:?}");
    device.hear_active("1.0.0").await;
    raw.end().await;
    device.stop().await;
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_claims_what_it_does_not_hold_hides_nothing() {
    let desk = Desk::new();
    let (shop, release, mut device) = fetching(&desk, 2 * MIB).await;
    let mut boasters = Vec::new();
    for _ in 0..5 {
        let rogue = Rogue::start(shop.id()).await;
        rogue.claim(release.payload.blob, release.payload.size);
        rogue.meet(&device.address()).await;
        rogue.until_heard("a wish", |messages, _| messages.iter().any(|it| matches!(it, Message::Want { .. }))).await;
        boasters.push(rogue);
    }
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &Hands::at(EPOCH), Some(&device)).await;
    kiosk.import(&shop).await;
    assert_eq!(sources(&mut device, &release).await, [(kiosk.id(), release.payload.size)]);
    device.hear_active("1.0.0").await;
    for rogue in boasters {
        rogue.end().await;
    }
    device.stop().await;
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t20_a_device_among_enemies_alone_for_two_days_takes_nothing_says_so_and_is_healed_by_one_friend() {
    const HOUR: i64 = 3600;
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let old = shop.pack();
    shop.release("1.1.0");
    // What this publisher signs is good for a day.
    let mut newest = Bent::of(&shop.pack());
    newest.timestamp = bent(&newest.timestamp, &[&key(4)], |signed| {
        signed["expires"] = in_words(Wall(EPOCH.0 + DAY)).into();
        next(signed);
    });
    let clock = Hands::at(EPOCH);
    let app = [("install", "stable"), ("freshness", "strict"), ("pin", "1.0.0")];
    // Between two connections this device asks nobody for news: it would next do so in a year.
    let patient = [("tuning.sync_interval", "365days")];
    let mut device = Device::start_with(&desk.at("device"), shop.id(), &clock, &app, &patient).await;
    device.node.import(shop.id(), newest.pack(), shop.payloads()).await.unwrap();
    device.hear_active("1.0.0").await;
    let trusted = device.trusted();
    // Old news, lies, a release of their own, garbage and silence, by others every few hours.
    let mut forged = newest.clone();
    forged.timestamp = bent(&forged.timestamp, &[&key(66)], next);
    let mut own = newest.clone();
    own.bend_stable(&[&key(66)], next);
    own.pin(&key(66), &key(66));
    for hours in (0..=48).step_by(6) {
        clock.set(Wall(EPOCH.0 + hours * HOUR));
        let mut enemies = Vec::new();
        for pack in [old.clone(), newest.pack(), forged.pack(), own.pack(), b"garbage".to_vec(), Vec::new()] {
            let rogue = Rogue::start(shop.id()).await;
            rogue.hold(&shop.payloads()).await;
            rogue.meet(&device.address()).await;
            rogue.offer(pack).await;
            enemies.push(rogue);
        }
        for liar in &enemies[2..5] {
            device.hear_refused_if_new(liar.id()).await;
        }
        let repository = &device.status().await.repositories[0];
        let left = 24 - hours;
        assert_eq!((repository.age_s, repository.expires_in_s), (Some(hours * HOUR), Some(left * HOUR)));
        assert_eq!((device.active().await.as_deref(), device.trusted()), (Some("1.0.0"), trusted.clone()), "{hours}");
        for rogue in enemies {
            rogue.end().await;
        }
    }
    // Someone at the device lets it take any version again: not from what expired.
    device.node.choose(Choice::Pin { app: "shop".to_owned(), version: None }).await.unwrap();
    let stale = |fact: &Fact| match fact {
        Fact::Waiting { why, .. } if why.contains("expired 24 hours ago") => Some(()),
        _ => None,
    };
    device.hear("that it is stale", stale).await;
    assert_eq!(device.active().await.as_deref(), Some("1.0.0"));

    // A friend comes, and the first words between the two are enough.
    shop.now = Wall(EPOCH.0 + 48 * HOUR);
    shop.renew(shop.now);
    shop.release("2.0.0");
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &clock, None).await;
    kiosk.import(&shop).await;
    kiosk.stop().await;
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &clock, Some(&device)).await;
    device.hear_active("2.0.0").await;
    device.stop().await;
    kiosk.stop().await;
}

/// A kiosk that is given the news, a device between, and one who listens behind it.
pub(super) struct Gossip {
    shop: Shop,
    kiosk: Device,
    pub(super) device: Device,
    pub(super) listener: Rogue,
}

impl Gossip {
    pub(super) async fn begin(desk: &Desk) -> Self {
        let mut shop = Shop::open(EPOCH);
        shop.release("1.0.0");
        let clock = Hands::at(EPOCH);
        let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[]).await;
        let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &clock, Some(&device)).await;
        let listener = Rogue::start(shop.id()).await;
        listener.subscribe().await;
        listener.meet(&device.address()).await;
        kiosk.import(&shop).await;
        device.hear_active("1.0.0").await;
        let mut gossip = Self { shop, kiosk, device, listener };
        // Who listens is told after the connection stands, so the first words may find nobody.
        while gossip.listener.announcements().is_empty() {
            gossip.news().await;
        }
        gossip
    }

    /// Lets a peer in behind the device, until it hears gossip, and so is heard.
    async fn join(&mut self, rogue: &Rogue) {
        rogue.subscribe().await;
        rogue.meet(&self.device.address()).await;
        while rogue.announcements().is_empty() {
            self.news().await;
        }
    }

    /// A release, given to the kiosk; returns when the device believes it.
    async fn news(&mut self) {
        self.shop.renew(EPOCH);
        self.kiosk.import(&self.shop).await;
        self.device.hear_verified(self.shop.version()).await;
    }

    /// A release that the listener hears of.
    pub(super) async fn heard_news(&mut self) {
        self.news().await;
        let timestamp = Bent::of(&self.shop.pack()).timestamp;
        let tells = |bytes: &Vec<u8>| Announcement::decode(bytes).is_ok_and(|told| told.timestamp == timestamp);
        self.listener.until_heard("the news", |_, heard| heard.iter().any(tells)).await;
    }

    pub(super) fn topic(&self) -> String {
        format!("/burr/1/{}", self.shop.id())
    }

    pub(super) fn announcement(&self, root: u64, pack: u64) -> Announcement {
        let documents = self.shop.pack();
        let timestamp = Pack::decode(&documents).unwrap().timestamp.to_vec();
        Announcement { repository: self.shop.id(), timestamp, pack: Hash::of(&pack.to_be_bytes()), root }
    }

    pub(super) async fn end(self) {
        self.listener.end().await;
        self.device.stop().await;
        self.kiosk.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_a_flood_of_announcements_goes_no_further_and_drowns_no_news() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    // Garbage, forgeries, and what can't be judged: of a root to come, and of no size that gossip carries.
    let mut forged = gossip.announcement(1, 0);
    forged.timestamp = bent(&forged.timestamp, &[&key(66)], next);
    let to_come = gossip.announcement(1, 0);
    let made = |kind: &str, number: u64| match kind {
        "garbage" => noise(number, 200),
        "forged" => Announcement { pack: Hash::of(&number.to_be_bytes()), ..forged.clone() }.encode(),
        "to come" => Announcement { root: 1000 + number, ..to_come.clone() }.encode(),
        _ => noise(number, 4500),
    };
    let mut flooders = Vec::new();
    for kind in ["garbage", "forged", "to come", "long"] {
        let rogue = Rogue::start(gossip.shop.id()).await;
        gossip.join(&rogue).await;
        for number in 0..2500 {
            rogue.announce(made(kind, number)).await;
        }
        flooders.push(rogue);
    }
    gossip.heard_news().await;
    for rogue in flooders {
        rogue.end().await;
    }
    gossip.heard_news().await;
    for bytes in gossip.listener.announcements() {
        let told = Announcement::decode(&bytes).expect("no garbage was passed on");
        assert_eq!(told.root, 1, "what can't be judged was passed on");
        assert_ne!(told.timestamp, forged.timestamp);
    }
    gossip.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_old_announcements_are_not_passed_on_again() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    let old = gossip.announcement(1, 0);
    gossip.heard_news().await;
    let before = gossip.listener.announcements().len();
    let rogue = Rogue::start(gossip.shop.id()).await;
    gossip.join(&rogue).await;
    for number in 0..1000_u64 {
        rogue.announce(Announcement { pack: Hash::of(&number.to_be_bytes()), ..old.clone() }.encode()).await;
    }
    rogue.say_garbage(gossip.device.id()).await;
    gossip.device.hear_refused_if_new(rogue.id()).await;
    gossip.heard_news().await;
    let heard = gossip.listener.announcements().split_off(before);
    assert!(!heard.iter().any(|bytes| Announcement::decode(bytes).unwrap().timestamp == old.timestamp));
    rogue.end().await;
    gossip.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t25_gossip_tells_nothing_of_devices() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    let more = Device::start_with(
        &desk.at("more"),
        gossip.shop.id(),
        &Hands::at(EPOCH),
        &[("install", "stable")],
        &[("peers", &gossip.device.address().0)],
    )
    .await;
    gossip.listener.meet(&more.address()).await;
    gossip.shop.release("42.42.42");
    gossip.kiosk.import(&gossip.shop).await;
    gossip.device.hear_active("42.42.42").await;
    gossip.heard_news().await;
    let names: Vec<[u8; 32]> = [&gossip.kiosk, &gossip.device, &more].iter().map(|device| device.id().0).collect();
    for bytes in gossip.listener.announcements() {
        for name in &names {
            let hex = Hash(*name).to_string();
            assert!(!contains(&bytes, name) && !contains(&bytes, hex.as_bytes()), "a device's name in gossip");
        }
        assert!(!contains(&bytes, b"42.42.42"), "a version in gossip");
    }
    more.stop().await;
    gossip.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_metadata_on_a_relays_disk_names_no_device() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    gossip.heard_news().await;
    let device = gossip.device.id().0;
    let trusted = gossip.kiosk.trusted();
    assert!(!trusted.is_empty());
    for bytes in trusted.values() {
        assert!(!contains(bytes, &device) && !contains(bytes, Hash(device).to_string().as_bytes()));
    }
    gossip.end().await;
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// `burr run` in a process of its own, whose memory can be looked at.
pub(super) struct Process {
    child: Child,
    address: Address,
}

impl Process {
    pub(super) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burr"));
        command.env_clear().arg("--data").arg(data).args(["run", "--json", "--listen", "127.0.0.1", "--no-mdns"]);
        command.args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let started: serde_json::Value = serde_json::from_str(&line).unwrap();
        let socket: std::net::SocketAddr = started["listeners"][0].as_str().unwrap().parse().unwrap();
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(drop));
        Self { child, address: Address(format!("/ip4/{}/tcp/{}", socket.ip(), socket.port())) }
    }

    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    /// The most memory that it ever had resident, in bytes.
    pub(super) fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// The time that it had a processor, of all its threads.
    pub(super) fn used(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may hold blanks, come fields 3 and on; 14 and 15 are ticks, of which a second has 100.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t02_what_never_ends_is_cut_off_and_memory_stays() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    let release = shop.release_tree("stable", "1.0.0", &[("data", &noise(1, 4 * MIB))]);
    let link = format!("shop/stable@{}", shop.id());
    let victim = Process::start(&desk.at("device"), &["--install", &link]);
    let idle = victim.peak();

    // A frame without an end: as long as a frame may be, and then longer.
    for length in [u32::MAX, u32::try_from(MAX_MESSAGE).unwrap() + 1] {
        let raw = Raw::connect(&victim.address).await;
        let mut stream = raw.open_sync().await;
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        let taken = pour(&mut stream, 1 << 30).await;
        assert!(taken <= 4 * MIB, "{taken} bytes of a frame over the limit were taken");
        raw.end().await;
    }
    // Garbage up to the limit: read whole, and that is the end.
    let raw = Raw::connect(&victim.address).await;
    let mut stream = raw.open_sync().await;
    stream.write_all(&u32::try_from(MAX_MESSAGE).unwrap().to_be_bytes()).await.unwrap();
    let taken = pour(&mut stream, 1 << 30).await;
    assert!(taken <= 2 * MAX_MESSAGE, "{taken} bytes were taken");
    raw.end().await;
    // A good pack, whose payload never ends.
    let mut raw = Raw::connect(&victim.address).await;
    let size = release.payload.size;
    let (told, mut poured) = tokio::sync::mpsc::unbounded_channel();
    raw.provide(move |mut stream| {
        let told = told.clone();
        async move {
            let mut head = vec![FOUND];
            head.extend(size.to_le_bytes());
            let taken = match stream.write_all(&head).await {
                Ok(()) => pour(&mut stream, 1 << 30).await,
                Err(_) => 0,
            };
            let _ = told.send(taken);
        }
    });
    let mut sync = raw.open_sync().await;
    let version = MetadataVersion { root: 9, timestamp: 9 };
    let holdings = vec![Holding { repository: shop.id(), version, pack: Hash([0; 32]) }];
    let digest = Digest { follows: vec![shop.id()], holdings, ..Digest::default() };
    assert!(raw::say(&mut sync, &Message::Digest(digest)).await);
    assert!(raw::say(&mut sync, &Message::Pack { repository: shop.id(), bytes: shop.pack() }).await);
    let taken = loop {
        let (blob, size) = (release.payload.blob, release.payload.size);
        // Until the metadata is on disk there, and the payload is looked for.
        let gone = !raw::say(&mut sync, &Message::Holds { blob, size, pieces: PieceMap::All }).await;
        match tokio::time::timeout(Duration::from_millis(100), poured.recv()).await {
            Ok(taken) => break taken.unwrap(),
            Err(_) => assert!(!gone, "the victim left before it asked"),
        }
    };
    assert!(taken <= 8 * MIB, "{taken} bytes of a false payload were taken");
    raw.end().await;

    let grown = victim.peak() - idle;
    eprintln!("memory grew by {} KiB over {} KiB", grown >> 10, idle >> 10);
    assert!(grown < 64 * MIB, "{grown}");
}

/// Writes until nobody takes it any more, or `limit` bytes; returns how many were taken.
async fn pour(stream: &mut Stream, limit: usize) -> usize {
    let part = vec![0xff; 64 << 10];
    let mut taken = 0;
    while taken < limit {
        match stream.write(&part).await {
            Ok(written @ 1..) => taken += written,
            _ => break,
        }
        if stream.flush().await.is_err() {
            break;
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn t44_gossip_that_broke_other_nodes_breaks_none() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    let topic = gossip.topic();
    let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    // A subscription, and a prune that asks to back off for longer than time lasts.
    let subscription = field(0x0a, &[&[0x08, 1][..], &field(0x12, topic.as_bytes())].concat());
    let longest = [&[0x18][..], &[0xff; 9], &[0x01]].concat();
    let prune = field(0x22, &[field(0x0a, topic.as_bytes()), longest].concat());
    let control = field(0x1a, &prune);
    let mut raws = Vec::new();
    for _ in 0..3 {
        let raw = Raw::connect(&gossip.device.address()).await;
        let mut stream = raw.open("/meshsub/1.1.0").await;
        for rpc in [&subscription, &control, &control] {
            let length = u8::try_from(rpc.len()).unwrap();
            // One byte up to 127, two above.
            let prefix = if length < 128 { vec![length] } else { vec![length, 1] };
            // The node may hang up.
            if stream.write_all(&[&prefix[..], rpc].concat()).await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
        raws.push((raw, stream));
    }
    gossip.heard_news().await;
    for (raw, _) in raws {
        raw.end().await;
    }
    gossip.end().await;
}
