//! A swarm of real nodes of which a quarter lies, in each of four ways: three honest devices, their source, and a liar that
//! says to fetch the same payload and to have all of it. The honest finish, nothing wrong is active, and the liar is named.
//!
//! How little it costs is measured in the simulator, where time is exact (`sim/tests/all/fleets/hostile.rs`).

use std::{
    fs,
    time::{Duration, Instant},
};

use burr_protocol::{
    NodeId, RepositoryId,
    fact::Fact,
    fetch::PieceMap,
    peers::{Address, Lie},
    release::Payload,
    wire::{Digest, Message},
};
use libp2p::{
    Stream,
    futures::{AsyncWriteExt as _, future::join_all},
    identity::Keypair,
};
use tokio::task::JoinHandle;

use super::{
    Desk, Device, EPOCH, Hands,
    raw::{self, Raw},
    shop::Shop,
};
use crate::support::noise;

const DEVICES: usize = 3;
/// Bytes of the payload.
const SIZE: u64 = 4 << 20;
/// What the source gives in a second. All have it after eight seconds at best, so who holds something up for the four that
/// a near provider may take is found out before the end, where what is late is asked of others without a word.
const RATE: u64 = 512 << 10;
/// The honest take at most half as long again as they need without the liar, and this: machines that run tests are busy.
const GRACE: Duration = Duration::from_secs(30);
/// A liar says again this often what it has: who found it out believes it anew.
const INSISTS: Duration = Duration::from_millis(200);
/// The answer's first byte: what was asked is here, or is not.
const FOUND: u8 = 1;
const NOT_FOUND: u8 = 2;
const STOOD_STILL: &str = "it stood still, and others are asked for what it held up";

/// How a liar answers.
#[derive(Debug, Clone, Copy)]
enum Answers {
    Altered,
    Missing,
    Trickle,
    Silence,
}

impl Answers {
    /// Answers all questions of a stream.
    async fn give(self, mut stream: Stream, size: u64) {
        let found = [&[FOUND][..], &size.to_le_bytes()].concat();
        // The other side turns away when it has enough.
        let _ = match self {
            Self::Altered => stream.write_all(&[found, vec![7; 1 << 20]].concat()).await,
            Self::Missing => stream.write_all(&[NOT_FOUND; 4096]).await,
            Self::Trickle => {
                for byte in found.into_iter().chain(std::iter::repeat(0)) {
                    if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            }
            Self::Silence => Ok(()),
        };
        let _ = stream.flush().await;
        std::future::pending::<()>().await;
    }

    /// What is told of it.
    fn named(self) -> String {
        match self {
            Self::Altered => Lie::AlteredBytes.to_string(),
            Self::Missing => "it does not have what it said".to_owned(),
            Self::Trickle | Self::Silence => STOOD_STILL.to_owned(),
        }
    }
}

/// One that says to all, again and again, that it fetches the payload and has every piece of it.
struct Liar {
    /// One for each victim, all of one identity.
    raws: Vec<Raw>,
    saying: Vec<JoinHandle<()>>,
}

impl Liar {
    async fn start(answers: Answers, victims: &[Address], repository: RepositoryId, payload: &Payload) -> Self {
        let (blob, size) = (payload.blob, payload.size);
        let key = Keypair::generate_ed25519();
        let (mut raws, mut saying) = (Vec::new(), Vec::new());
        for victim in victims {
            let mut raw = Raw::connect_as(key.clone(), victim).await;
            raw.provide(move |stream| answers.give(stream, size));
            let mut stream = raw.open_sync().await;
            saying.push(tokio::spawn(async move {
                let digest = Digest { follows: vec![repository], site: Some("hall".to_owned()), ..Digest::default() };
                let mut heard = raw::say(&mut stream, &Message::Digest(digest)).await;
                while heard {
                    heard = raw::say(&mut stream, &Message::Want { blobs: vec![blob], outward: true }).await
                        && raw::say(&mut stream, &Message::Holds { blob, size, pieces: PieceMap::All }).await;
                    tokio::time::sleep(INSISTS).await;
                }
            }));
            raws.push(raw);
        }
        Self { raws, saying }
    }

    fn id(&self) -> NodeId {
        self.raws[0].id()
    }

    async fn end(self) {
        for task in self.saying {
            task.abort();
        }
        for raw in self.raws {
            raw.end().await;
        }
    }
}

/// What a device told of a node.
fn told_of(device: &Device, node: NodeId) -> Vec<String> {
    let of = |fact: &Fact| match fact {
        Fact::PeerRefused { node: told, lie, .. } if *told == node => Some(lie.to_string()),
        Fact::ProviderFailed { node: told, why, .. } if *told == node => Some(why.clone()),
        _ => None,
    };
    device.heard.iter().filter_map(of).collect()
}

/// Spreads a payload among honest devices and a liar that answers so.
async fn spread_in_spite_of(answers: Answers) {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    let data = noise(1, SIZE.try_into().unwrap());
    let release = shop.release_tree("stable", "1.0.0", &[("data", &data)]);
    let clock = Hands::at(EPOCH);
    let hall = ("site", "hall");
    let rate = format!("{RATE} B/s");
    let gives = [hall, ("collect", "true"), ("budget.lan_up", &rate)];
    let kiosk = Device::start_with(&desk.at("kiosk"), shop.id(), &clock, &[], &gives).await;
    let mut known = vec![kiosk.address()];
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let peers = known.iter().map(|address| address.0.as_str()).collect::<Vec<_>>().join(" ");
        let data = desk.at(&number.to_string());
        let settings = [hall, ("peers", &peers)];
        let device = Device::start_with(&data, shop.id(), &clock, &[("install", "stable")], &settings).await;
        known.push(device.address());
        devices.push(device);
    }
    let liar = Liar::start(answers, &known[1..], shop.id(), &release.payload).await;
    for device in &devices {
        let all = async {
            while device.status().await.peers.len() < DEVICES + 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, all).await.expect("all meet");
    }
    let begun = Instant::now();
    kiosk.import(&shop).await;
    join_all(devices.iter_mut().map(|device| device.hear_active("1.0.0"))).await;
    let took = begun.elapsed();

    let named: Vec<String> = devices.iter().flat_map(|device| told_of(device, liar.id())).collect();
    println!("{answers:?}: {took:?}, and of the liar was told {named:?}");
    assert!(named.contains(&answers.named()), "{answers:?} is named {named:?}");
    let least = Duration::from_millis(SIZE * 1000 / RATE);
    assert!(took < least * 3 / 2 + GRACE, "{answers:?}: {took:?}, {least:?} at least without it");
    for device in &devices {
        assert!(fs::read(device.current().join("data")).unwrap() == data, "something else is active");
        for honest in devices.iter().chain([&kiosk]) {
            // Who is behind a busy machine may stand still, but honest nodes have what they say, unaltered.
            let told = told_of(device, honest.id());
            assert!(told.iter().all(|why| why == STOOD_STILL), "an honest node is named {told:?}");
        }
    }
    liar.end().await;
    for device in devices {
        device.stop().await;
    }
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_alters_bytes() {
    spread_in_spite_of(Answers::Altered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_promises_what_it_does_not_have() {
    spread_in_spite_of(Answers::Missing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_brings_a_byte_a_second() {
    spread_in_spite_of(Answers::Trickle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_is_asked_in_vain() {
    spread_in_spite_of(Answers::Silence).await;
}
