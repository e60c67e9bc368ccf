//! Upstreams: what no peer has comes from a plain web server; one that lies, breaks off or never ends is found out.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use super::program::{Node, Shop, publish, say};
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
    let from = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.unwrap_or(0);
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
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole - 1);
    let range = if from > 0 { range.as_str() } else { "" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}{close}", whole - from);
    stream.write_all(head.as_bytes())?;
    stream.write_all(&bytes[from..])
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
    let resumed: Vec<bool> = asked.iter().map(|head| head.to_lowercase().contains("range:")).collect();
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
    assert!(asked[1].to_lowercase().contains("range: bytes="), "{asked:?}");
    assert!(held > 0);
    let taken = |head: &String| head.to_lowercase().contains("range: bytes=0-");
    assert!(!asked.iter().any(taken), "{asked:?}");
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
