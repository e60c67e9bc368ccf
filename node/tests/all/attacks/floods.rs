//! Floods below and beside what the protocol says: announcements, gossip's own control messages, and frames of the
//! multiplexer, from peers that write every byte themselves, so that no library of theirs holds anything back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash,
    fact::Fact,
    peers::{Address, Lie},
    trust::pack::Pack,
    wire::Announcement,
};
use libp2p::{
    core::upgrade::OutboundConnectionUpgrade as _,
    futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    identity::Keypair,
    noise,
    tcp::tokio::TcpStream,
};

use super::{
    DEADLINE, Desk, Device, EPOCH, Hands,
    mesh::{Gossip, Process},
    raw::Raw,
    rogue::Rogue,
    shop::{Bent, Shop, bent, key, next},
};
use crate::support::noise as any_bytes;

/// Memory that all floods together may cost a node.
const MOST: usize = 64 << 20;
/// A peer that takes nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes what it is given, part after part, until the other side hangs up or takes nothing more; returns whether all
/// was taken.
async fn pour(to: &mut (impl AsyncWrite + Unpin), parts: impl Iterator<Item = Vec<u8>>) -> bool {
    let mut buffer = Vec::new();
    for part in parts.map(Some).chain([None]) {
        buffer.extend(part.iter().flatten());
        if buffer.len() >= 16 << 10 || part.is_none() {
            let written = async { to.write_all(&buffer).await.is_ok() && to.flush().await.is_ok() };
            if !tokio::time::timeout(PATIENCE, written).await.unwrap_or(false) {
                return false;
            }
            buffer.clear();
        }
    }
    true
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 127).unwrap();
        number >>= 7;
        bytes.push(if number > 0 { low | 128 } else { low });
        if number == 0 {
            return bytes;
        }
    }
}

/// A field of bytes, as protobuf has it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat()
}

/// A message of gossip as it stands on its stream.
fn rpc(fields: &[u8]) -> Vec<u8> {
    [&varint(fields.len())[..], fields].concat()
}

fn subscribe(topic: &str) -> Vec<u8> {
    rpc(&field(1, &[&[0x08, 1][..], &field(2, topic.as_bytes())].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_who_floods_with_lies_is_refused_for_the_first() {
    let desk = Desk::new();
    let mut gossip = Gossip::begin(&desk).await;
    let topic = gossip.topic();
    let mut forged = gossip.announcement(1, 0);
    forged.timestamp = bent(&forged.timestamp, &[&key(66)], next);
    let made = |lie: Lie, number: u64| match lie {
        Lie::Garbage => any_bytes(number, 200),
        _ => Announcement { pack: Hash::of(&number.to_be_bytes()), ..forged.clone() }.encode(),
    };
    for lie in [Lie::Garbage, Lie::ForgedMetadata] {
        let raw = Raw::connect(&gossip.device.address()).await;
        let mut stream = raw.open("/meshsub/1.1.0").await;
        let tells = |number| rpc(&field(2, &[field(2, &made(lie, number)), field(4, topic.as_bytes())].concat()));
        let all =
            tokio::time::timeout(DEADLINE, pour(&mut stream, [subscribe(&topic)].into_iter().chain((0..).map(tells))));
        assert!(!all.await.expect("it is cut off"));
        // What came at once is taken apart and judged, however much it is.
        assert_eq!(gossip.device.hear_refused(raw.id()).await.0, lie);
        raw.end().await;
    }
    gossip.heard_news().await;
    for bytes in gossip.listener.announcements() {
        let told = Announcement::decode(&bytes).expect("no garbage was passed on");
        assert_ne!(told.timestamp, forged.timestamp, "a forgery was passed on");
    }
    gossip.end().await;
}

/// A device in a process of its own, whose memory can be looked at, and the kiosk that it hears of releases from.
pub(super) struct Victim {
    process: Process,
    idle: usize,
    pub(super) shop: Shop,
    pub(super) kiosk: Device,
    next: u64,
}

impl Victim {
    pub(super) async fn start(desk: &Desk) -> Self {
        let shop = Shop::open(EPOCH);
        let link = format!("shop/stable@{}", shop.id());
        let process = Process::start(&desk.at("device"), &["--install", &link]);
        let peers = process.address().0;
        let settings = [("collect", "true"), ("peers", peers.as_str())];
        let kiosk = Device::start_with(&desk.at("kiosk"), shop.id(), &Hands::at(EPOCH), &[], &settings).await;
        let mut victim = Self { process, idle: 0, shop, kiosk, next: 1 };
        victim.serves().await;
        victim.idle = victim.process.peak();
        victim
    }

    fn address(&self) -> Address {
        self.process.address()
    }

    /// It installs one more release, and reports it.
    async fn serves(&mut self) {
        let version = format!("{}.0.0", self.next);
        self.next += 1;
        self.shop.release(&version);
        self.kiosk.import(&self.shop).await;
        self.reports(&version).await;
    }

    /// It says how a version fared.
    pub(super) async fn reports(&mut self, version: &str) {
        let reported = |fact: &Fact| match fact {
            Fact::ReceiptKept { version: told, .. } if told == version => Some(()),
            _ => None,
        };
        self.kiosk.hear(&format!("the receipt of {version}"), reported).await;
    }

    /// It is there still, and what was done to it cost no more than it may.
    pub(super) async fn survived(mut self, what: &str) {
        self.serves().await;
        let grown = self.process.peak() - self.idle;
        eprintln!("{what}: memory grew by {} KiB over {} KiB", grown >> 10, self.idle >> 10);
        assert!(grown < MOST, "{what}: {grown}");
        self.kiosk.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t44_control_messages_of_gossip_without_end_cost_a_node_little() {
    let desk = Desk::new();
    let mut victim = Victim::start(&desk).await;
    let topic = format!("/burr/1/{}", victim.shop.id());
    let name = field(1, topic.as_bytes());
    let ids = |number: u64, tag: u8| -> Vec<u8> {
        (0..60).flat_map(|at| field(tag, &Hash::of(&(number * 60 + at).to_be_bytes()).0)).collect()
    };
    let longest = [&[0x18][..], &[0xff; 9], &[0x01]].concat();
    let strangers = |number: u64| -> Vec<u8> {
        let peer = |at: u64| [&[0, 0x24, 8, 1, 0x12, 0x20][..], &Hash::of(&(number * 9 + at).to_be_bytes()).0].concat();
        (0..9).flat_map(|at| field(2, &field(1, &peer(at)))).collect()
    };
    let control = |kind: &str, number: u64| {
        let control = match kind {
            "has" => field(1, &[name.clone(), ids(number, 2)].concat()),
            "wants" => field(2, &ids(number, 1)),
            "grafts" => field(3, &name),
            _ => field(4, &[name.clone(), strangers(number), longest.clone()].concat()),
        };
        rpc(&field(3, &control))
    };
    let mut raws = Vec::new();
    for kind in ["has", "wants", "grafts", "prunes"] {
        let raw = Raw::connect(&victim.address()).await;
        let mut stream = raw.open("/meshsub/1.1.0").await;
        let flood = (0..2000).map(|number| control(kind, number));
        let all = pour(&mut stream, [subscribe(&topic)].into_iter().chain(flood)).await;
        eprintln!("{kind}: {}", if all { "all was taken" } else { "it was cut off" });
        raws.push((raw, stream));
    }
    victim.serves().await;
    for (raw, _) in raws {
        raw.end().await;
    }
    victim.survived("control messages of gossip").await;
}

/// Announcements that nobody is blamed for, all different: of a root to come, and true ones of before, told anew.
async fn babble(victim: Address, topic: String, told: [Announcement; 2], rate: u32, sent: Arc<AtomicU64>) {
    const TURN: Duration = Duration::from_millis(20);
    let mut turns = tokio::time::interval(TURN);
    let mut number = 0_u64;
    loop {
        // Whoever is sent away comes back as another.
        let raw = Raw::connect(&victim).await;
        let mut stream = raw.open("/meshsub/1.1.0").await;
        let mut frames = vec![subscribe(&topic)];
        loop {
            turns.tick().await;
            for _ in 0..rate / u32::try_from(Duration::from_secs(1).as_millis() / TURN.as_millis()).unwrap() {
                number += 1;
                let told = &told[usize::from(number.is_multiple_of(2))];
                let told = Announcement { pack: Hash::of(&number.to_be_bytes()), ..told.clone() }.encode();
                frames.push(rpc(&field(2, &[field(2, &told), field(4, topic.as_bytes())].concat())));
            }
            let length = frames.len() as u64;
            if !pour(&mut stream, frames.drain(..)).await {
                break;
            }
            sent.fetch_add(length, Ordering::Relaxed);
        }
        raw.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_ten_thousand_announcements_a_second_cost_less_than_a_core_and_delay_no_news() {
    const RATE: u32 = 10_000;
    let desk = Desk::new();
    let mut victim = Victim::start(&desk).await;
    let listener = Rogue::start(victim.shop.id()).await;
    listener.subscribe().await;
    listener.meet(&victim.address()).await;
    let old = announcement(&victim.shop);
    while listener.announcements().is_empty() {
        victim.serves().await;
    }
    let (sent, topic) = (Arc::new(AtomicU64::new(0)), format!("/burr/1/{}", victim.shop.id()));
    let told = [old.clone(), Announcement { root: 1000, ..old }];
    let flood = tokio::spawn(babble(victim.address(), topic, told, RATE, Arc::clone(&sent)));
    let (begun, used) = (Instant::now(), victim.process.used());
    let mut delays = Vec::new();
    while delays.len() < 9 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        victim.shop.renew(EPOCH);
        let (news, since) = (announcement(&victim.shop).timestamp, Instant::now());
        victim.kiosk.import(&victim.shop).await;
        let tells = |bytes: &Vec<u8>| Announcement::decode(bytes).is_ok_and(|told| told.timestamp == news);
        listener.until_heard("the news", |_, heard| heard.iter().any(tells)).await;
        delays.push(since.elapsed());
    }
    let (lasted, used) = (begun.elapsed(), victim.process.used().saturating_sub(used));
    flood.abort();
    let sent = sent.load(Ordering::Relaxed);
    delays.sort();
    eprintln!("{sent} in {lasted:.1?} took {used:.1?} of a processor; news after {delays:?}");
    assert!(sent > 1000 * lasted.as_secs(), "it was no flood");
    assert!(used < lasted, "it took more than one processor");
    // The machine may be busy with something else now and then.
    assert!(delays[delays.len() / 2] < Duration::from_secs(2), "{delays:?}");
    for bytes in listener.announcements() {
        assert_eq!(Announcement::decode(&bytes).unwrap().root, 1, "what can't be judged was passed on");
    }
    listener.end().await;
    victim.survived("announcements").await;
}

/// What a kiosk announces of a shop as it is.
fn announcement(shop: &Shop) -> Announcement {
    let pack = shop.pack();
    let timestamp = Pack::decode(&pack).unwrap().timestamp.to_vec();
    Announcement { repository: shop.id(), timestamp, pack: Hash::of(&pack), root: 1 }
}

/// What goes on and on, by the number of its turn.
type Flood = Box<dyn Fn(u32) -> Vec<u8>>;

/// A frame's head: kind (0 data, 1 credit, 2 ping), flags (1 opens, 2 answers, 4 closes, 8 resets), stream, and length
/// or credit.
fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    [&[0, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes()].concat()
}

/// A connection that is encrypted, and whose multiplexer is whatever is written.
async fn below_the_streams(victim: &Address) -> noise::Output<TcpStream> {
    let parts: Vec<&str> = victim.0.split('/').collect();
    let socket = tokio::net::TcpStream::connect(format!("{}:{}", parts[2], parts[4])).await.unwrap();
    let mut socket = TcpStream(socket);
    select(&mut socket, "/noise").await;
    let config = noise::Config::new(&Keypair::generate_ed25519()).unwrap();
    let (_, mut io) = config.upgrade_outbound(socket, "/noise").await.unwrap();
    select(&mut io, "/yamux/1.0.0").await;
    io
}

/// Agrees on a protocol by multistream-select.
async fn select(io: &mut (impl AsyncRead + AsyncWrite + Unpin), protocol: &str) {
    for line in ["/multistream/1.0.0", protocol] {
        let line = [&varint(line.len() + 1)[..], line.as_bytes(), b"\n"].concat();
        io.write_all(&line).await.unwrap();
        io.flush().await.unwrap();
        let mut answer = vec![0; line.len()];
        io.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t44_frames_that_the_multiplexer_forbids_or_never_end_cost_a_node_little() {
    let desk = Desk::new();
    let mut victim = Victim::start(&desk).await;
    let zeros = || vec![0; 16 << 10];
    let odd = |number: u32| 2 * number + 1;
    // Each with how it begins, and what then goes on and on.
    let floods: [(&str, Vec<u8>, Flood, u32); 9] = [
        ("a stream that opens with more than its window", frame(0, 1, 1, u32::MAX), Box::new(move |_| zeros()), 4000),
        ("more credit than can be counted", frame(1, 1, 1, u32::MAX), Box::new(|_| frame(1, 0, 1, u32::MAX)), 100_000),
        ("streams without end", Vec::new(), Box::new(move |number| frame(1, 1, odd(number), 0)), 100_000),
        ("pings whose answers nobody reads", Vec::new(), Box::new(|number| frame(2, 1, 0, number)), 300_000),
        ("data of streams that are not there", Vec::new(), Box::new(|_| frame(0, 0, 7, 0)), 100_000),
        ("one stream opened again and again", Vec::new(), Box::new(|_| frame(1, 1, 1, 0)), 100_000),
        (
            "streams opened and reset",
            Vec::new(),
            Box::new(move |number| [frame(1, 1, odd(number), 0), frame(1, 8, odd(number), 0)].concat()),
            100_000,
        ),
        ("streams of the other side's numbers", Vec::new(), Box::new(|number| frame(0, 1, 2 * number, 0)), 10_000),
        ("no frames at all", vec![0xff; 12], Box::new(|number| any_bytes(number.into(), 4096)), 1000),
    ];
    let mut held = Vec::new();
    for (what, begin, flood, times) in floods {
        let mut io = below_the_streams(&victim.address()).await;
        let all = pour(&mut io, [begin].into_iter().chain((0..times).map(flood))).await;
        eprintln!("{what}: {}", if all { "all was taken" } else { "it was cut off" });
        // It stays, as far as it is let.
        held.push(io);
    }
    victim.serves().await;
    drop(held);
    victim.survived("frames").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_lists_thousands_of_releases_holds_nobody_up() {
    // Whoever may sign for one channel can fill it to the pack's limit; each device and cache plans with all of it.
    const RELEASES: u64 = 4000;
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let mut full = Bent::of(&shop.pack());
    full.bend_stable(&[&key(6)], |signed| {
        let targets = signed["targets"].as_object_mut().unwrap();
        let first = targets["app/shop/stable/1.burr"].clone();
        for seq in 2..=RELEASES {
            let mut release = first.clone();
            release["custom"]["seq"] = seq.into();
            release["custom"]["version"] = format!("{seq}.0.0").into();
            targets.insert(format!("app/shop/stable/{seq}.burr"), release);
        }
        next(signed);
    });
    full.pin(&key(3), &key(4));
    let clock = Hands::at(EPOCH);
    let app = [("install", "stable"), ("cache", "all")];
    let mut device = Device::start_with(&desk.at("device"), shop.id(), &clock, &app, &[]).await;
    device.node.import(shop.id(), full.pack(), shop.payloads()).await.unwrap();
    let told = tokio::time::timeout(DEADLINE, device.hear_active(&format!("{RELEASES}.0.0"))).await;
    told.expect("it plans in its time");
    let answered = tokio::time::timeout(PATIENCE, device.status()).await;
    assert!(answered.is_ok(), "it answers while it follows such a channel");
    device.stop().await;
}
