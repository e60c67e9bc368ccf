//! How fast a blob goes from node to node on loopback, verified and on disk: `cargo bench -p burr-node --bench transfer`.
//!
//! One process holds both nodes, so both share its cores. Where nginx and curl are installed, the same file goes from
//! one to the other in the same rounds, and each rate is also given as a share of that. Arguments: MiB of the blob
//! (256), rounds (3).

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use burr_node::{
    net::{Net, Settings},
    store::blobs::Blobs,
};
use burr_protocol::{
    action::{Action, Input},
    config::Config,
    fetch::{PieceMap, Request, RequestId},
    peers::Address,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct Node {
    net: Net,
    inputs: mpsc::Receiver<Input>,
    blobs: Blobs,
    dir: TempDir,
}

impl Node {
    async fn start(seed: u8) -> Self {
        let dir = TempDir::new().expect("a directory");
        let blobs = Blobs::open(dir.path().join("blobs")).await.expect("a store");
        let settings = Settings {
            identity: [seed; 32],
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            peers: Vec::new(),
            mdns: false,
            max_connections: 8,
            closed: false,
            enroller: None,
            rationed: false,
        };
        let (net, inputs) = Net::start(settings, blobs.clone()).await.expect("a node");
        Self { net, inputs, blobs, dir }
    }
}

#[tokio::main]
async fn main() {
    // `cargo bench` adds a flag of its own.
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (mib, rounds) = (numbers.next().unwrap_or(256_usize), numbers.next().unwrap_or(3_usize));
    let provider = Node::start(1).await;
    let file = provider.dir.path().join("payload");
    let mut bytes = vec![0; mib << 20];
    for part in bytes.chunks_mut(1 << 20) {
        getrandom::fill(part).expect("entropy");
    }
    std::fs::write(&file, bytes).expect("a file");
    let began = Instant::now();
    let imported = provider.blobs.import(&file).await.expect("imported");
    println!("import   {:>6.0} MiB/s", rate(mib, began));
    let socket = provider.net.listeners()[0];
    let config = Config::default();
    let nginx = Nginx::start(provider.dir.path());
    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for transport in ["quic", "tcp"] {
            let place = match transport {
                "tcp" => format!("/ip4/{}/tcp/{}", socket.ip(), socket.port()),
                _ => format!("/ip4/{}/udp/{}/quic-v1", socket.ip(), socket.port()),
            };
            let mut taker = Node::start(u8::try_from(2 + round).expect("few rounds")).await;
            taker.net.act(Action::Dial(Address(place))).await;
            while !matches!(taker.inputs.recv().await, Some(Input::Connected { .. })) {}
            let began = Instant::now();
            let (mut next, mut under) = (0, BTreeMap::new());
            while next < imported.size || !under.is_empty() {
                while under.len() as u64 * config.request_bytes < config.provider_bytes && next < imported.size {
                    let id = RequestId(next);
                    let end = imported.size.min(next + config.request_bytes);
                    let node = provider.net.node();
                    let request = Request { id, node, blob: imported.hash, size: imported.size, start: next, end };
                    under.insert(id, Instant::now());
                    taker.net.act(Action::Fetch(request)).await;
                    next = end;
                }
                match taker.inputs.recv().await {
                    Some(Input::Fetched { id }) => {
                        under.remove(&id);
                    }
                    Some(Input::FetchFailed { why, .. }) => panic!("{why:?}"),
                    _ => {}
                }
            }
            println!("{transport:<8} {:>6.0} MiB/s", rate(mib, began));
            rates.entry(transport).or_default().push(rate(mib, began));
            assert_eq!(taker.blobs.held(imported.hash, imported.size).await.expect("held"), PieceMap::All);
            let began = Instant::now();
            let mut reader = taker.blobs.reader(imported.hash);
            while reader.next().await.expect("whole").is_some() {}
            println!("  read   {:>6.0} MiB/s", rate(mib, began));
            taker.net.shutdown().await;
            taker.blobs.shutdown().await.expect("closed");
        }
        if let Some(nginx) = &nginx {
            let rate = rate(mib, nginx.curl());
            println!("curl     {rate:>6.0} MiB/s");
            rates.entry("curl").or_default().push(rate);
        }
    }
    let median = |name: &str| {
        let mut rates = rates.get(name)?.clone();
        rates.sort_unstable_by(f64::total_cmp);
        Some(rates[rates.len() / 2])
    };
    for transport in ["quic", "tcp"] {
        if let (Some(rate), Some(curl)) = (median(transport), median("curl")) {
            println!("median of {transport}: {rate:.0} MiB/s, {:.2} of curl from nginx", rate / curl);
        }
    }
    provider.net.shutdown().await;
    provider.blobs.shutdown().await.expect("closed");
}

/// nginx that serves a directory, if it is installed.
struct Nginx {
    process: Child,
    url: String,
    dir: TempDir,
}

impl Nginx {
    fn start(root: &Path) -> Option<Self> {
        let dir = TempDir::new().expect("a directory");
        let socket = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let (root, here) = (root.display(), dir.path().display());
        let configuration = format!(
            "daemon off; user root; pid {here}/pid; error_log {here}/error; events {{}} http {{ access_log off; sendfile on; \
             server {{ listen {socket}; root {root}; }} }}"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, configuration).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().ok()?;
        thread::sleep(Duration::from_secs(1));
        Some(Self { process, url: format!("http://{socket}/payload"), dir })
    }

    /// Fetches the payload to disk, and says when it began.
    fn curl(&self) -> Instant {
        let began = Instant::now();
        let file = self.dir.path().join("fetched");
        let status = Command::new("curl").args(["-sfo"]).arg(&file).arg(&self.url).status().expect("curl runs");
        assert!(status.success(), "{status}");
        fs::File::open(&file).and_then(|file| file.sync_all()).expect("on disk");
        began
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn rate(mib: usize, since: Instant) -> f64 {
    mib as f64 / since.elapsed().as_secs_f64()
}
