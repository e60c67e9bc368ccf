//! Upstreams: what no peer has comes from a plain web server; one that lies, breaks off or never ends is found out.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use burr_node::settings::{Resolved, Source, follow::Link};
use burr_protocol::fact::{Fact, UpdateStep};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::{
    program::{Node, Shop, publish, say},
    quota::taken,
};
use crate::support::{noise, tree};

/// `python3 -m http.server` on a directory.
struct Python(Child, u16);

impl Python {
    fn serve(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(directory);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3 is here");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where");
        let port = line.split(' ').skip_while(|word| *word != "port").nth(1).and_then(|port| port.parse().ok());
        Self(child, port.unwrap_or_else(|| panic!("no port: {line}")))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a server treats blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Other bytes of the right length.
    Alters,
    /// More and more bytes.
    NeverEnds,
    /// Half of them, and then the line is dead; from the second request on all that is asked for.
    BreaksOff,
    /// What is asked for.
    Gives,
}

/// A server of a directory's metadata that treats blobs in a way of its own, and remembers what was asked.
struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn of(directory: PathBuf, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever asked may have gone.
                let _ = answer(stream, &directory, way, &log);
            }
        });
        Self { at, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The heads of the requests for blobs.
    fn blobs_asked(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no thread panics with it");
        asked.iter().filter(|head| head.starts_with("GET /blobs/")).cloned().collect()
    }
}

fn answer(mut stream: TcpStream, directory: &Path, way: Way, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let is_blob = path.starts_with("blobs/");
    log.lock().expect("no thread panics with it").push(head.clone());
    let Ok(mut bytes) = fs::read(directory.join(path)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let whole = bytes.len();
    let (from, end) = range(&head).map_or((0, whole), |(from, end)| (from, end.min(whole)));
    let close = "Connection: close\r\n\r\n";
    let first =
        log.lock().expect("no thread panics with it").iter().filter(|head| head.starts_with("GET /blobs/")).count()
            == 1;
    match way {
        Way::Alters if is_blob => bytes[whole / 2] ^= 1,
        Way::NeverEnds if is_blob => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{close}").as_bytes())?;
            // Ends when the other side has had enough.
            loop {
                stream.write_all(&bytes)?;
            }
        }
        Way::BreaksOff if is_blob && first => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\n{close}").as_bytes())?;
            return stream.write_all(&bytes[..whole / 2]);
        }
        _ => {}
    }
    let status = if end - from < whole { "206 Partial Content" } else { "200 OK" };
    let part = format!("Content-Range: bytes {from}-{}/{whole}\r\n", end - 1);
    let part = if end - from < whole { part.as_str() } else { "" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{part}{close}", end - from);
    stream.write_all(head.as_bytes())?;
    stream.write_all(&bytes[from..end])
}

/// The bytes that the head of a request asks for, if it says so: from where, and to before where.
fn range(head: &str) -> Option<(usize, usize)> {
    let asked = head.lines().find_map(|line| Some(line.to_lowercase().strip_prefix("range: bytes=")?.to_owned()))?;
    let (from, last) = asked.split_once('-')?;
    Some((from.parse().ok()?, last.parse::<usize>().ok()? + 1))
}

/// A shop whose publisher does not run, and the directory that it exports to.
fn exported() -> (Shop, PathBuf) {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1"), ("app.js", &noise(1, 300_000))])));
    let site = shop.data("site");
    export(&shop, &site);
    (shop, site)
}

#[track_caller]
fn export(shop: &Shop, site: &Path) {
    say(&shop.publisher, &["export", &site.display().to_string(), "--app", "shop"]).ok();
}

#[track_caller]
fn device(shop: &Shop, urls: &str) -> Node {
    Node::start(&shop.data("device"), &["--install", &shop.link, "--set", &format!("upstream.urls={urls}")])
}

#[test]
fn a_device_without_any_peer_is_served_by_a_plain_web_server() {
    let (shop, site) = exported();
    let python = Python::serve(&site);
    let mut device = device(&shop, &format!("http://127.0.0.1:{}/", python.1));
    device.hear_step("1.0.0", "active");
    fs::write(shop.source().join("index.html"), "2").expect("writable");
    publish(&shop.publisher, &shop.source(), "2.0.0");
    export(&shop, &site);
    say(&shop.data("device"), &["check"]).ok();
    device.hear_step("2.0.0", "active");
    let page = shop.data("device").join("apps/shop/current/index.html");
    assert_eq!(fs::read_to_string(page).expect("installed"), "2");
    let parts = fs::read_dir(shop.data("device").join("upstream")).expect("a directory");
    assert_eq!(parts.count(), 0, "what is in the store lies nowhere else");
}

#[test]
fn altered_bytes_and_ones_without_end_are_found_out_and_the_next_server_is_asked() {
    let (shop, site) = exported();
    let servers = [Way::Alters, Way::NeverEnds, Way::BreaksOff].map(|way| Server::of(site.clone(), way));
    let urls = servers.iter().map(Server::url).collect::<Vec<_>>().join(" ");
    let mut device = device(&shop, &urls);
    // The third one breaks off, and has the rest when it is asked again.
    device.hear_step("1.0.0", "active");
    for server in &servers[..2] {
        assert!(!server.blobs_asked().is_empty(), "{}", server.at);
    }
    let asked = servers[2].blobs_asked();
    assert!(asked.len() >= 2, "{asked:?}");
    let resumed: Vec<bool> = asked.iter().map(|head| range(head).is_some_and(|(from, _)| from > 0)).collect();
    assert_eq!(resumed[..2], [false, true], "what another server sent is not built on: {asked:?}");
    let status = device.ask("status");
    assert_eq!(status["apps"][0]["active"]["version"], "1.0.0");
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended_after_a_restart_too() {
    let (shop, site) = exported();
    let server = Server::of(site, Way::BreaksOff);
    let mut first = device(&shop, &server.url());
    first.hear_fact("fetch_started");
    let directory = shop.data("device").join("upstream");
    let part =
        || fs::read_dir(&directory).ok()?.next()?.ok().and_then(|entry| entry.metadata().ok()).map(|it| it.len());
    let begun = std::time::Instant::now();
    while part().is_none_or(|held| held == 0) {
        assert!(begun.elapsed() < super::program::DEADLINE, "nothing was taken");
        thread::sleep(std::time::Duration::from_millis(50));
    }
    let _ = first.kill();
    let held = part().expect("a part is kept");
    let mut second = device(&shop, &server.url());
    second.hear_step("1.0.0", "active");
    let asked = server.blobs_asked();
    assert!(held > 0);
    let begins: Vec<_> = asked.iter().map(|head| range(head).map(|(from, _)| from)).collect();
    assert!(
        begins[0] == Some(0) && begins[1..].iter().all(|from| *from == Some(150_000.max(from.unwrap_or(0)))),
        "{asked:?}"
    );
}

#[test]
fn a_server_of_forged_metadata_gives_nothing_and_peers_come_first() {
    let (shop, site) = exported();
    let metadata = site.join("repositories").join(shop.link.rsplit('@').next().expect("a link")).join("metadata");
    let timestamp = metadata.join("timestamp.json");
    let forged =
        fs::read_to_string(&timestamp).expect("a timestamp").replacen("\"expires\":\"20", "\"expires\":\"21", 1);
    fs::write(&timestamp, forged).expect("writable");
    let server = Server::of(site, Way::Alters);
    let mut device = device(&shop, &server.url());
    device.hear_fact("import_refused");
    assert_eq!(device.ask("status")["apps"][0]["active"], serde_json::Value::Null);
    device.stop();
    // With a peer that has everything, the server is asked for no payload.
    let publisher = Node::start(&shop.publisher, &[]);
    let peer = publisher.address().to_string();
    let urls = format!("upstream.urls={}", server.url());
    let mut device = Node::start(&shop.data("device"), &["--install", &shop.link, "--peer", &peer, "--set", &urls]);
    device.hear_step("1.0.0", "active");
    assert_eq!(server.blobs_asked(), Vec::<String>::new());
}

/// An authority of one's own; writes the certificate and key that it gives to `localhost`, and returns its own certificate.
fn authority(certificate: &Path, key: &Path) -> String {
    let own_key = KeyPair::generate().expect("a key");
    let mut own = CertificateParams::new(Vec::new()).expect("no names");
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = own.self_signed(&own_key).expect("a certificate");
    let given_key = KeyPair::generate().expect("a key");
    let given = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let given = given.signed_by(&given_key, &own, &own_key).expect("a certificate");
    fs::write(certificate, given.pem()).expect("writable");
    fs::write(key, given_key.serialize_pem()).expect("writable");
    own.pem()
}

#[test]
fn over_https_the_authority_that_is_named_is_believed_and_no_other() {
    let (shop, _) = exported();
    let (certificate, key) = (shop.data("certificate.pem"), shop.data("key.pem"));
    let [ours, other] = ["ours.pem", "other.pem"].map(|name| shop.data(name));
    fs::write(&other, authority(&certificate, &key)).expect("writable");
    fs::write(&ours, authority(&certificate, &key)).expect("writable");
    let values = [
        "gateway.listen=127.0.0.1:0".to_owned(),
        format!("gateway.certificate={}", certificate.display()),
        format!("gateway.key={}", key.display()),
    ];
    let arguments: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let server = Node::start(&shop.publisher, &arguments);
    let url = format!("upstream.urls=https://localhost:{}", server.gateway().port());
    let start = |name: &str, ca: &str| {
        let ca = format!("upstream.ca={ca}");
        Node::start(&shop.data(name), &["--install", &shop.link, "--set", &url, "--set", &ca])
    };
    for (name, ca) in [("browsers", String::new()), ("others", other.display().to_string())] {
        let mut device = start(name, &ca);
        let told = device.hear_fact("upstream_failed");
        assert!(told["why"].as_str().is_some_and(|why| why.to_lowercase().contains("certificate")), "{told}");
        assert_eq!(device.ask("status")["repositories"][0]["version"], serde_json::Value::Null);
        let metrics = say(&shop.data(name), &["status", "--metrics"]).ok();
        assert!(!metrics.contains("burr_upstream_failures_total 0"), "{metrics}");
    }
    let mut device = start("device", &ours.display().to_string());
    device.hear_step("1.0.0", "active");
    let took = device.heard.iter().find(|fact| fact["fact"] == "upstream_took").expect("it is told");
    assert!(took["url"].as_str().is_some_and(|url| url.starts_with("https://localhost:")), "{took}");
    let metrics = say(&shop.data("device"), &["status", "--metrics"]).ok();
    assert!(metrics.contains("burr_upstream_payloads_total 1"), "{metrics}");

    fs::write(&other, "no certificate").expect("writable");
    let ca = format!("upstream.ca={}", other.display());
    let refused = say(&shop.data("fresh"), &["run", "--install", &shop.link, "--set", &url, "--set", &ca]);
    assert!(refused.code == Some(2) && refused.err.contains("there is no certificate in it"), "{refused:?}");
}

#[test]
fn budgets_hold_for_web_servers_too() {
    let (shop, site) = exported();
    let server = Server::of(site, Way::Alters);
    let python = Python::serve(&shop.data("site"));
    // The first would alter what it is asked for: it is not, while nothing may cross the uplink.
    let urls = format!("upstream.urls={}", server.url());
    let arguments = ["--install", &shop.link, "--set", &urls, "--set", "budget.wan_down=none"];
    let mut device = Node::start(&shop.data("device"), &arguments);
    device.hear_fact("fetch_started");
    device.listen(burr_protocol::upstream::PATIENCE + Duration::from_secs(3));
    assert_eq!(server.blobs_asked(), Vec::<String>::new());
    device.stop();
    let urls = format!("upstream.urls=http://127.0.0.1:{}", python.1);
    let arguments = ["--install", &shop.link, "--set", &urls, "--set", "budget.wan_down=100 kB/s"];
    let begun = Instant::now();
    let mut device = Node::start(&shop.data("device"), &arguments);
    device.hear_step("1.0.0", "active");
    let down = device.ask("status")["budget"]["traffic"]["wan_down"].as_u64().expect("a number");
    assert!(down >= 300_000, "{down}");
    let least = burr_protocol::upstream::PATIENCE + Duration::from_secs(2);
    assert!(begun.elapsed() >= least, "300 kB at 100 kB/s took {:?}", begun.elapsed());
}

#[test]
fn what_a_web_server_gave_is_kept_while_the_device_may_not_fetch() {
    let (shop, site) = exported();
    let server = Server::of(site, Way::BreaksOff);
    let (data, urls) = (shop.data("device"), format!("upstream.urls={}", server.url()));
    let unmetered = ["--set", "apps.shop.download_if=unmetered"];
    let mut device = Node::start(&data, &[&["--install", &shop.link, "--set", &urls][..], &unmetered].concat());
    say(&data, &["device", "condition", "metered=no"]).ok();
    device.hear_fact("upstream_failed");
    say(&data, &["device", "condition", "metered=yes"]).ok();
    device.hear_fact("fetch_left");
    device.listen(burr_protocol::upstream::PATIENCE + Duration::from_secs(3));
    let metrics = say(&data, &["status", "--metrics"]).ok();
    let held = metrics.lines().find_map(|line| line.strip_prefix("burr_upstream_held_bytes ")?.parse::<u64>().ok());
    assert!(held >= Some(150_000), "{metrics}");
    say(&data, &["device", "condition", "metered=no"]).ok();
    device.hear_step("1.0.0", "active");
    let begins: Vec<_> = server.blobs_asked().iter().map(|head| range(head).map(|(from, _)| from)).collect();
    assert!(begins[0] == Some(0) && begins[1..].iter().all(|from| *from > Some(0)), "{begins:?}");
}

#[test]
fn a_months_bytes_are_taken_before_a_web_server_sends_them() {
    const CAP: u64 = 4 << 20;
    let shop = Shop::open(|at| drop(tree(at, &[("app.js", &noise(1, 8 << 20))])));
    let site = shop.data("site");
    export(&shop, &site);
    let server = Server::of(site, Way::Gives);
    let (urls, cap) = (format!("upstream.urls={}", server.url()), format!("budget.month={CAP} B"));
    let arguments = ["--install", &shop.link, "--set", &urls, "--set", &cap];
    let mut device = Node::start(&shop.data("device"), &arguments);
    device.hear_fact("budget_used_up");
    // What may come after that would come by now.
    device.listen(burr_protocol::upstream::PATIENCE + Duration::from_secs(3));
    let sent: u64 =
        server.blobs_asked().iter().filter_map(|head| range(head)).map(|(from, end)| (end - from) as u64).sum();
    let budget = device.ask("status")["budget"].clone();
    let used = budget["used"].as_u64().expect("a number");
    assert!(sent > CAP * 3 / 4 && sent + sent / 16 <= CAP, "{sent} bytes were asked for");
    let counted = budget["traffic"]["wan_down"].as_u64().expect("a number");
    assert!(used <= CAP && counted.abs_diff(sent + sent / 16) < 100, "{sent}: {budget}");
    // With more to spend, it goes on from there.
    say(&shop.data("device"), &["config", "set", "budget.month", "unlimited"]).ok();
    device.hear_step("1.0.0", "active");
    let begins: Vec<usize> = server.blobs_asked().iter().filter_map(|head| range(head)).map(|(from, _)| from).collect();
    assert!(begins.is_sorted() && begins.iter().filter(|from| **from == 0).count() == 1, "{begins:?}");
}

#[test]
fn what_a_web_server_gave_is_in_the_store_and_goes_like_all_others() {
    const SIZE: usize = 6 << 20;
    let shop = Shop::open(|at| drop(tree(at, &[("app.js", &noise(1, SIZE))])));
    let site = shop.data("site");
    export(&shop, &site);
    let server = Server::of(site, Way::Gives);
    let data = shop.data("kiosk");
    let link = shop.link.replace("/stable@", "@");
    let urls = format!("upstream.urls={}", server.url());
    let mut kiosk = Node::start(&data, &["--cache", &link, "--set", &urls]);
    kiosk.hear_fact("upstream_took");
    let held = taken(&[data.join("blobs"), data.join("upstream")]);
    assert!((SIZE as u64..2 * SIZE as u64).contains(&held), "{held}");
    // Others get it from there, and it goes when it is not wanted any more.
    let peer = kiosk.address().to_string();
    let mut device = Node::start(&shop.data("device"), &["--install", &shop.link, "--peer", &peer]);
    device.hear_step("1.0.0", "active");
    kiosk.stop();
    let (peer, quota) = (device.address().to_string(), "quota=4 MiB");
    let kiosk = Node::start(&data, &["--cache", &link, "--peer", &peer, "--set", quota]);
    let begun = Instant::now();
    while taken(&[data.join("blobs")]) > SIZE as u64 {
        assert!(begun.elapsed() < super::program::DEADLINE, "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    drop(kiosk);
}

#[test]
fn a_node_ends_at_once_though_a_web_server_is_silent() {
    let (shop, _) = exported();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let node = device(&shop, &format!("http://{}", listener.local_addr().expect("an address")));
    let (silent, _) = listener.accept().expect("it asks");
    let begun = Instant::now();
    node.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_ones_own_app_takes_from_a_web_server_and_ends_with_its_last_handle() {
    let (shop, site) = exported();
    let python = Python::serve(&site);
    let link: Link = shop.link.parse().expect("a link");
    let mut settings = Resolved::load(&shop.data("app")).expect("no file");
    settings.install(&link, &Source::Flag).expect("a channel");
    let values =
        [("listen", "127.0.0.1"), ("mdns", "false"), ("upstream.urls", &format!("http://127.0.0.1:{}", python.1))];
    for (name, value) in values {
        settings.set(name, value.to_owned(), Source::Flag).expect("known");
    }
    let (node, running) = burr_node::Node::start(settings.settings().expect("good")).await.expect("it starts");
    let mut facts = node.facts();
    let active = async {
        loop {
            if let Fact::Update { step: UpdateStep::Active, .. } = facts.recv().await.expect("it runs") {
                return;
            }
        }
    };
    tokio::time::timeout(super::program::DEADLINE, active).await.expect("it becomes active");
    drop((node, facts));
    let ended = tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends");
    assert!(ended.expect("no panic").is_ok());
}
