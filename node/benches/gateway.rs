//! Update checks at a gateway: 100 apps, 100,000 devices known, 2,000 checks a second for ten seconds, half of them of
//! devices that are up to date. `cargo bench --bench gateway` prints the times from when each check was due, and the
//! bytes that were written to disk meanwhile.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use burr_node::{
    Node, Publisher, control,
    gateway::{self, Gateway, Serves, Transport},
    publisher::Publication,
    settings::{Resolved, Source},
};
use burr_protocol::gateway::{Report, Told};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

const APPS: usize = 100;
const DEVICES: usize = 100_000;
const RATE: usize = 2000;
const SECONDS: usize = 10;
const CONNECTIONS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(bench());
}

async fn bench() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let apps: Vec<String> = (0..APPS).map(|number| format!("app-{number}")).collect();
    let serves = publish(dir.path(), &apps);
    let mut resolved = Resolved::load(dir.path()).expect("defaults");
    for (name, value) in [("listen", "127.0.0.1"), ("mdns", "false")] {
        resolved.set(name, value.to_owned(), Source::Flag).expect("a setting");
    }
    for served in &serves {
        let repository = served.repository.to_string();
        resolved.set_app(&served.app, "repository", repository, Source::Flag).expect("a setting");
    }
    let (node, _running) = Node::start(resolved.settings().expect("settings")).await.expect("a node");
    for app in &apps {
        control::offer(&node, dir.path(), app).await.expect("what was just published");
    }
    let begun = Instant::now();
    choose(&node, &apps).await;
    println!("{DEVICES} devices chose a channel in {:.1} s", begun.elapsed().as_secs_f64());
    let settings = gateway::Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        transport: Transport::Plain,
        url: None,
        rate: 1_000_000,
        channel: "stable".to_owned(),
        self_assign: true,
        quota: u64::MAX,
        serves,
    };
    let gateway = Gateway::open(node, dir.path(), settings).await.expect("a gateway");
    while fs::read_dir(dir.path().join("gateway")).expect("its directory").count() < APPS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let written = written();
    let mut times = load(gateway.address()).await;
    let written = written_since(written);
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
    println!(
        "{} checks at {RATE}/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, worst {:.2} ms; {written} bytes written",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}

fn publish(data: &Path, apps: &[String]) -> Vec<Serves> {
    let build = data.join("build");
    fs::create_dir(&build).expect("a directory");
    let serves = apps.iter().map(|app| {
        fs::write(build.join("index.html"), format!("<h1>{app}</h1>").repeat(1000)).expect("a file");
        let repository = Publisher::init(data, app, &["stable"], None).expect("a new app");
        let mut publisher = Publisher::open(data, app).expect("a publisher");
        let publication = Publication::new(&build, "stable", "1.1.0");
        publisher.publish(&publication, None, &|_, _| ()).expect("published");
        Serves { app: app.clone(), id: format!("com.example.{app}"), repository }
    });
    serves.collect()
}

async fn choose(node: &Node, apps: &[String]) {
    let places = Arc::new(Semaphore::new(48));
    let mut under_way = JoinSet::new();
    for number in 0..DEVICES {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        let (node, app) = (node.clone(), apps[number % APPS].clone());
        under_way.spawn(async move {
            let what = Told::Channel(Some("stable".to_owned()));
            let report = Report { app, device: format!("device-{number}"), what };
            node.report(report).await.expect("the node runs").expect("taken");
            drop(place);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// Asks at the rate, and says how long after its time each answer was there.
async fn load(at: SocketAddr) -> Vec<Duration> {
    let begin = Instant::now() + Duration::from_millis(100);
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        workers.spawn(async move {
            let mut stream = TcpStream::connect(at).await.expect("the gateway listens");
            stream.set_nodelay(true).expect("a socket");
            let mut times = Vec::new();
            for number in (worker..RATE * SECONDS).step_by(CONNECTIONS) {
                let due = begin + Duration::from_micros(number as u64 * 1_000_000 / RATE as u64);
                tokio::time::sleep_until(due.into()).await;
                check(&mut stream, number).await.expect("an answer");
                times.push(due.elapsed());
            }
            times
        });
    }
    workers.join_all().await.into_iter().flatten().collect()
}

async fn check(stream: &mut TcpStream, number: usize) -> io::Result<()> {
    let version = if number.is_multiple_of(2) { "1.0.0" } else { "1.1.0" };
    let device = number * 7919 % DEVICES;
    let app = device % APPS;
    let body = format!(
        "{{\"platform\":\"android\",\"device_id\":\"device-{device}\",\"app_id\":\"com.example.app-{app}\",\"custom_id\":\"\",\
         \"version_build\":\"1.0.0\",\"version_code\":\"1\",\"version_os\":\"15\",\"version_name\":\"{version}\",\
         \"plugin_version\":\"8.51.23\",\"is_emulator\":false,\"is_prod\":true,\"defaultChannel\":\"\"}}"
    );
    let head = format!("POST /updates HTTP/1.1\r\nHost: kiosk\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if length.is_some_and(|length| body.len() >= length) {
            let expected = if version == "1.0.0" { "\"url\":" } else { "up_to_date" };
            assert!(head.starts_with("HTTP/1.1 200") && body.contains(expected), "{text}");
            return Ok(());
        }
    }
}

/// Bytes that this process has caused to be written to disk.
fn written() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

fn written_since(before: Option<u64>) -> String {
    match (before, written()) {
        (Some(before), Some(now)) => (now - before).to_string(),
        _ => "an unknown number of".to_owned(),
    }
}
