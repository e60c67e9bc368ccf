//! Local control, over HTTP: each path of the contract answers as the contract says, pages and strangers get nothing, and
//! who follows the facts hears all of them; and over the socket that `burr` itself uses.

mod schema;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    http::{Answer, ask, get, raw},
    program::{DEADLINE, Node, Shop, burr, publish, say, wait},
};
use crate::support::tree;
use schema::Contract;

/// Runs a node with local control over HTTP.
#[track_caller]
fn run(data: &Path, arguments: &[&str]) -> Node {
    Node::start(data, &[&["--set", "control.http=127.0.0.1:0"], arguments].concat())
}

fn token(data: &Path) -> String {
    let file = data.join("control.token");
    assert_eq!(fs::metadata(&file).expect("a token").permissions().mode() & 0o777, 0o600);
    format!("Bearer {}", fs::read_to_string(file).expect("readable").trim())
}

/// Says something with the token.
#[track_caller]
fn post(at: SocketAddr, data: &Path, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(at, "POST", path, &[("Authorization", &token(data))], body.as_bytes())
}

/// A publisher with control over HTTP, and a device that installed 1.0.0 and keeps what comes next on trial.
fn pair() -> (Shop, Node, Node) {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = run(&shop.publisher, &[]);
    let peer = publisher.address().to_string();
    let calls = ["--set", "apps.shop.confirm=call", "--set", "apps.shop.confirm_timeout=1h"];
    let install = ["--peer", &peer, "--install", &shop.link];
    let device = run(&shop.data("device"), &[install.as_slice(), &calls].concat());
    (shop, publisher, device)
}

#[test]
fn every_path_of_the_contract_answers_and_every_answer_fits_it() {
    let (shop, publisher, mut device) = pair();
    let (at, data) = (device.control(), shop.data("device"));
    device.hear_step("1.0.0", "on_trial");
    let contract = Contract::served_at(at);
    assert_eq!(contract, Contract::of(burr_node::control::http::OPENAPI));

    // The state while something is on trial, active, and published.
    let status = get(at, "/v1/status");
    contract.check("get", "/v1/status", &status);
    assert_eq!(status.json()["apps"][0]["next"], "1.0.0");
    contract.check("post", "/v1/apps/{app}/confirm", &post(at, &data, "/v1/apps/shop/confirm", &Value::Null));
    device.hear_step("1.0.0", "active");
    for node in [at, publisher.control()] {
        for path in ["/v1/status", "/v1/receipts", "/v1/releases"] {
            contract.check("get", path, &get(node, path));
        }
    }
    let explained = get(at, "/v1/apps/shop/explain/1.0.0");
    contract.check("get", "/v1/apps/{app}/explain/{release}", &explained);
    assert_eq!(explained.json()["words"], "it is active");
    let whole = format!("/v1/apps/shop/explain/1.0.0?device={}&channel=stable", "ab".repeat(32));
    let stranger = get(at, &whole);
    contract.check("get", "/v1/apps/{app}/explain/{release}", &stranger);
    assert_eq!(stranger.json()["heard_s"], Value::Null);
    let unknown = get(at, "/v1/apps/shop/explain/9.9.9");
    contract.check("get", "/v1/apps/{app}/explain/{release}", &unknown);
    assert_eq!(unknown.status, 400);
    let same = json!({ "channel": "stable" });
    contract.check("post", "/v1/apps/{app}/channel", &post(at, &data, "/v1/apps/shop/channel", &same));
    let pinned = post(at, &data, "/v1/apps/shop/pin", &json!({ "version": "1.0.0" }));
    contract.check("post", "/v1/apps/{app}/pin", &pinned);
    contract.check("get", "/v1/status", &get(at, "/v1/status"));
    assert_eq!(post(at, &data, "/v1/apps/shop/pin", &json!({ "version": null })).status, 204);
    let attributes = post(at, &data, "/v1/device/attributes", &json!({ "set": { "site": "depot-7" } }));
    contract.check("post", "/v1/device/attributes", &attributes);
    assert_eq!(attributes.json(), json!({ "site": "depot-7" }));
    assert_eq!(get(at, "/v1/receipts").json()[0]["outcome"], "Active");

    // A release that waits for a person.
    fs::write(shop.source().join("index.html"), "2").unwrap();
    let source = shop.source().display().to_string();
    let manual = ["publish", &source, "--app", "shop", "--version", "2.0.0", "--urgency", "manual"];
    say(&shop.publisher, &manual).ok();
    contract.check("post", "/v1/check", &post(at, &data, "/v1/check", &Value::Null));
    device.hear_step("2.0.0", "staged");
    let said = json!({ "busy": true, "power": "battery", "battery": 80, "metered": true });
    contract.check("post", "/v1/device", &post(at, &data, "/v1/device", &said));
    let status = get(at, "/v1/status");
    contract.check("get", "/v1/status", &status);
    assert_eq!(
        (&status.json()["conditions"]["battery"], &status.json()["conditions"]["idle"]),
        (&json!(80), &json!(false))
    );
    contract.check("post", "/v1/device", &post(at, &data, "/v1/device", &json!({ "metered": true, "forget": true })));
    let conditions = get(at, "/v1/status").json()["conditions"].clone();
    assert_eq!((&conditions["battery"], &conditions["idle"]), (&Value::Null, &json!(true)), "{conditions}");
    assert_eq!(conditions["metered"], true);
    let wish = |what: &str, body: &Value| {
        let answer = post(at, &data, &format!("/v1/apps/shop/{what}"), body);
        contract.check("post", &format!("/v1/apps/{{app}}/{what}"), &answer);
        answer.status
    };
    assert_eq!(wish("defer", &json!({ "seconds": 3600 })), 204);
    assert_eq!(wish("defer", &json!({ "seconds": 3_600_000 })), 400);
    assert_eq!(wish("rollback", &Value::Null), 400, "there is nothing before 1.0.0");
    assert_eq!(wish("retry", &Value::Null), 204);
    assert_eq!(wish("apply", &Value::Null), 204);
    device.hear_step("2.0.0", "on_trial");
    assert_eq!(wish("retry", &Value::Null), 409);
    assert_eq!(wish("rollback", &Value::Null), 204);
    device.hear_step("2.0.0", "rolled_back");
    let imported = post(publisher.control(), &shop.publisher, "/v1/apps/shop/import", &Value::Null);
    contract.check("post", "/v1/apps/{app}/import", &imported);
    assert_eq!(imported.status, 204);

    // Every path, asked as nobody should: each error is one of the contract too.
    for (method, pattern) in contract.operations() {
        let path = pattern.replace("{app}", "nothing").replace("{release}", "1.0.0");
        let page = ask(at, &method.to_uppercase(), &path, &[("Origin", "http://evil.example")], b"");
        contract.check(&method, &pattern, &page);
        assert_eq!(page.status, 403);
        if method == "post" {
            let stranger = ask(at, "POST", &path, &[("Authorization", "Bearer 00")], b"");
            contract.check("post", &pattern, &stranger);
            assert_eq!(stranger.status, 401);
            if pattern.contains("{app}") || contract.takes_body(&pattern) {
                let wrong = post(at, &data, &path, &Value::Null);
                contract.check("post", &pattern, &wrong);
                assert_eq!(wrong.status, 400, "{wrong:?}");
            }
            let read = get(at, &path);
            assert_eq!((read.status, read.header("allow")), (405, Some("POST")));
        }
    }
    assert_eq!(get(at, "/v1/nothing").status, 404);
    let wrong = post(at, &data, "/v1/apps/nothing/confirm", &Value::Null).json();
    assert!(wrong["message"].as_str().unwrap().contains("no app \"nothing\""), "{wrong}");
    let nonsense = post(at, &data, "/v1/device", &json!({ "busy": "perhaps" }));
    assert_eq!(nonsense.status, 400, "{nonsense:?}");
    let endless = json!({ "busy": true, "because": "x".repeat(1 << 20) });
    assert_eq!(post(at, &data, "/v1/device", &endless).status, 413);
}

#[test]
fn web_pages_strangers_and_other_names_of_this_machine_get_nothing() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let node = run(&shop.publisher, &[]);
    let at = node.control();
    for header in
        ["Origin: null", "Origin: http://127.0.0.1", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
    {
        let request = format!("GET /v1/status HTTP/1.1\r\nHost: {at}\r\n{header}\r\nConnection: close\r\n\r\n");
        assert_eq!(raw(at, request.as_bytes()).unwrap().status, 403, "{header}");
    }
    for host in ["rebound.example", "rebound.example:80", "0.0.0.0", "127.0.0.1.rebound.example"] {
        let request = format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(at, request.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("wrong_host")), "{host}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let nobody = raw(at, b"GET /v1/status HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(nobody.status, 403);
    let local = raw(at, b"GET /v1/status HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(local.status, 200);
    let preflight = ask(at, "OPTIONS", "/v1/check", &[("Origin", "http://evil.example")], b"");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, None));

    let first = token(&shop.publisher);
    node.stop();
    drop(run(&shop.publisher, &[]));
    assert_eq!(token(&shop.publisher), first, "what knows the token goes on after a restart");
    let open = say(&shop.publisher, &["run", "--set", "control.http=0.0.0.0:7450"]);
    assert!(open.code == Some(2) && open.err.contains("loopback"), "{open:?}");
}

/// Follows the facts, from after an event.
struct Follower {
    lines: std::io::Lines<BufReader<TcpStream>>,
    head: Vec<String>,
}

impl Follower {
    fn of(at: SocketAddr, last: &str) -> Self {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: {at}\r\n{last}\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        let head = lines.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        Self { lines, head }
    }

    /// The next fact that is wanted, with its id, and how many came on the way.
    fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> (String, usize) {
        let (mut id, mut passed) = (String::new(), 0);
        for line in self.lines.by_ref() {
            let line = line.expect("the stream goes on");
            if let Some(found) = line.strip_prefix("id: ") {
                found.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                if wanted(&serde_json::from_str(data).expect("a fact")) {
                    return (id, passed);
                }
                passed += 1;
            }
        }
        panic!("the stream ended");
    }
}

#[test]
fn who_follows_the_events_hears_all_of_them_and_who_comes_back_what_was_missed() {
    let (shop, publisher, mut device) = pair();
    device.hear_step("1.0.0", "on_trial");
    let (at, data) = (device.control(), shop.data("device"));
    let mut follower = Follower::of(at, "");
    assert!(follower.head[0].contains(" 200 "), "{:?}", follower.head);
    assert!(follower.head.iter().any(|line| line.eq_ignore_ascii_case("content-type: text/event-stream")));
    let active =
        |version: &'static str| move |fact: &Value| fact["step"]["step"] == "active" && fact["version"] == version;
    assert_eq!(post(at, &data, "/v1/apps/shop/confirm", &Value::Null).status, 204);
    let (seen, _) = follower.hear(active("1.0.0"));
    drop(follower);

    fs::write(shop.source().join("index.html"), "2").unwrap();
    publish(&shop.publisher, &shop.source(), "2.0.0");
    device.hear_step("2.0.0", "on_trial");
    // All that happened in between, from the first fact after the one that was seen.
    let mut again = Follower::of(at, &format!("Last-Event-ID: {seen}\r\n"));
    let (_, passed) = again.hear(|fact| fact["step"]["step"] == "on_trial" && fact["version"] == "2.0.0");
    let after = device.heard.iter().position(active("1.0.0")).unwrap();
    let until = device.heard.len() - 1;
    assert_eq!(passed, until - after - 1, "{:?}", &device.heard[after..]);
    drop(publisher);
    again.hear(|fact| fact["fact"] == "peer_disconnected");
    device.stop();
}

#[test]
fn a_check_brings_what_would_come_in_an_hour() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let (peer, port) = (publisher.address().to_string(), publisher.address().port().to_string());
    let patient = ["--set", "tuning.dial_backoff=1h", "--set", "tuning.dial_backoff_max=1h"];
    let mut device =
        Node::start(&shop.data("device"), &[&["--peer", &peer, "--install", &shop.link], patient.as_slice()].concat());
    device.hear_step("1.0.0", "active");
    publisher.stop();
    device.hear_fact("peer_disconnected");

    fs::write(shop.source().join("index.html"), "2").unwrap();
    publish(&shop.publisher, &shop.source(), "2.0.0");
    let publisher = Node::start(&shop.publisher, &["--port", &port]);
    say(&shop.data("device"), &["check"]).ok();
    device.hear_step("2.0.0", "active");
    drop(publisher);
}

#[test]
fn clients_of_the_socket_that_went_away_take_nobodys_place() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    // Nothing happens there that would be told.
    let node = Node::start(&shop.publisher, &[]);
    for _ in 0..200 {
        let mut client = UnixStream::connect(shop.publisher.join("control.sock")).expect("a socket");
        client.set_read_timeout(Some(DEADLINE)).expect("a socket");
        client.write_all(b"{\"do\":\"facts\"}\n").expect("taken");
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).expect("an answer");
        assert_eq!(answer.trim(), r#"{"ok":null}"#);
    }
    assert_eq!(node.ask("status")["node"], json!(node.id()));
    node.stop();
}

#[test]
fn a_program_that_reads_no_facts_holds_up_neither_an_update_nor_the_end() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let (data, peer) = (shop.data("device"), publisher.address().to_string());
    // Little more goes into the pipe, and nobody takes anything out.
    let (facts, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&vec![0; 60 << 10]).expect("there is room");
    let mut device = burr(&data);
    device.args(["run", "--json", "--listen", "127.0.0.1", "--no-mdns", "--install", &shop.link, "--peer", &peer]);
    let mut device = device.stdout(full).stderr(Stdio::null()).spawn().expect("burr starts");
    for version in 1..=10 {
        let version = format!("{version}.0.0");
        if version != "1.0.0" {
            publish(&shop.publisher, &shop.source(), &version);
        }
        let begun = Instant::now();
        let active = || {
            let said = say(&data, &["status", "--json"]);
            said.code == Some(0) && said.json()["apps"][0]["active"]["version"] == version
        };
        while !active() {
            assert!(begun.elapsed() < DEADLINE, "{version} does not become active");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let pid = i32::try_from(device.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::TERM).expect("it runs");
    let ended = wait(&mut device, Duration::from_secs(60));
    let _ = device.kill();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    drop(facts);
}

#[test]
fn what_the_node_refuses_has_the_exit_code_of_its_kind() {
    let (shop, _publisher, mut device) = pair();
    let data = shop.data("device");
    device.hear_step("1.0.0", "on_trial");
    let busy = say(&data, &["retry", "shop"]);
    assert_eq!(busy.code, Some(4), "{busy:?}");
    assert!(busy.err.contains("an update is under way") && busy.err.contains("try again"), "{busy:?}");
    say(&data, &["confirm", "shop"]).ok();
    device.hear_step("1.0.0", "active");
    assert_eq!(say(&data, &["rollback", "shop"]).code, Some(2), "there is nothing to go back to");
    device.stop();
    let nobody = say(&data, &["retry", "shop"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("no node runs on") && nobody.err.contains("`burr run`"), "{nobody:?}");
}
