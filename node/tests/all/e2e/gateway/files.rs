//! Payloads and repositories as plain files: for curl, CDNs and any TUF client.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use super::{run, until};
use crate::{
    e2e::{
        http::{ask, get, get_with},
        program::{Node, Shop, say},
        quota::Watch,
    },
    support::{noise, small_app, tree},
};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

#[test]
fn payloads_are_immutable_files_with_tags_and_ranges() {
    let shop = Shop::open(|at| drop(small_app(at, "1.0.0")));
    let mut node = run(&shop.publisher, &[]);
    node.hear_fact("metadata_verified");
    let at = node.gateway();
    let blobs = node.ask("status")["blobs"].clone();
    let blob = blobs[0]["blob"].as_str().expect("a name").to_owned();
    let path = format!("/blobs/{blob}");
    until("the payload is served", || get(at, &path).status == 200);

    let whole = get(at, &path);
    let (size, tag) = (whole.body.len(), format!("\"{blob}\""));
    assert_eq!(whole.status, 200, "{whole:?}");
    assert_eq!(blake3::hash(&whole.body).to_string(), blob);
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    assert_eq!(whole.header("cache-control"), Some(IMMUTABLE));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert_eq!(whole.header("content-length"), Some(size.to_string().as_str()));

    let head = ask(at, "HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    assert_eq!(get_with(at, &path, "If-None-Match", &tag).status, 304);

    // Across chunk groups, in the middle of chunks, to the end, and the last bytes.
    for (text, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1-20000", 1, 20_001),
        ("bytes=16383-16384", 16_383, 16_385),
        ("bytes=30000-", 30_000, size),
        ("bytes=-100", size - 100, size),
    ] {
        let part = get_with(at, &path, "Range", text);
        assert_eq!(part.status, 206, "{text}: {part:?}");
        assert_eq!(part.body, whole.body[from..to], "{text}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/{size}", to - 1).as_str()));
    }
    let resumed = ask(at, "GET", &path, &[("Range", "bytes=10-"), ("If-Range", &tag)], b"");
    assert_eq!((resumed.status, resumed.body.as_slice()), (206, &whole.body[10..]));
    let other = ask(at, "GET", &path, &[("Range", "bytes=10-"), ("If-Range", "\"another\"")], b"");
    assert_eq!((other.status, other.body.len()), (200, size));
    let past = get_with(at, &path, "Range", &format!("bytes={size}-"));
    assert_eq!((past.status, past.header("content-range")), (416, Some(format!("bytes */{size}").as_str())));
    assert_eq!(get(at, &format!("/blobs/{}", "00".repeat(32))).status, 404);
}

#[test]
fn a_tuf_client_follows_the_repository_that_a_gateway_serves() {
    let shop = Shop::open(|at| drop(small_app(at, "1.0.0")));
    let mut node = run(&shop.publisher, &[]);
    node.hear_fact("metadata_verified");
    let at = node.gateway();
    let repository = shop.link.split_once('@').expect("a link").1;
    let base = format!("/repositories/{repository}/metadata");
    until("the repository is served", || get(at, &format!("{base}/timestamp.json")).status == 200);

    let timestamp = get(at, &format!("{base}/timestamp.json"));
    assert_eq!((timestamp.status, timestamp.header("cache-control")), (200, Some("no-cache")));
    let root = get(at, &format!("{base}/1.root.json"));
    assert_eq!((root.status, root.header("cache-control")), (200, Some(IMMUTABLE)));
    let tag = timestamp.header("etag").expect("a tag");
    assert_eq!(get_with(at, &format!("{base}/timestamp.json"), "If-None-Match", tag).status, 304);

    let held = shop.publisher.join("publish/shop/repository/metadata");
    for entry in fs::read_dir(held).expect("a repository").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("a name");
        let version = name.split('.').next().and_then(|first| first.parse::<u64>().ok());
        // The publisher keeps the documents of one state before for those who are just reading it.
        if name == "timestamp.json" || name.ends_with("root.json") || version == Some(2) {
            assert_eq!(get(at, &format!("{base}/{name}")).body, fs::read(entry.path()).expect("readable"), "{name}");
        }
    }

    let trusted = shop.data("trusted");
    let (here, files) = (trusted.display().to_string(), shop.data("files"));
    let root_file = shop.publisher.join("publish/shop/repository/metadata/1.root.json");
    let tuf = |rest: &[&str]| say(&shop.data("nobody"), &[&["tuf", "--metadata-dir", &here], rest].concat());
    tuf(&["init", &root_file.display().to_string()]).ok();
    let url = format!("http://{at}/repositories/{repository}");
    let metadata = format!("{url}/metadata");
    tuf(&["--metadata-url", &metadata, "refresh"]).ok();
    tuf(&[
        "--metadata-url",
        &metadata,
        "--target-name",
        "app/shop/stable/1.burr",
        "--target-base-url",
        &format!("{url}/targets"),
        "--target-dir",
        &files.display().to_string(),
        "download",
    ])
    .ok();
    let found = fs::read_dir(&files).expect("a directory").next().expect("a file").expect("an entry");
    let size = node.ask("status")["blobs"][0]["size"].as_u64();
    assert_eq!(Some(found.metadata().expect("a file").len()), size);
}

#[test]
fn a_months_bytes_are_taken_before_they_go_to_clients() {
    const CAP: u64 = 4 << 20;
    // The last quarter is for what the node itself fetches.
    const SHARE: u64 = CAP / 4 * 3;
    let shop = Shop::open(|at| drop(tree(at, &[("app.js", &noise(7, 1 << 20))])));
    let cap = format!("budget.month={CAP} B");
    // Clients of other sites, as the proxy in front of the gateway says.
    let mut node = run(&shop.publisher, &["--set", &cap, "--set", "gateway.transport=proxy"]);
    node.hear_fact("metadata_verified");
    let at = node.gateway();
    let blob = node.ask("status")["blobs"][0]["blob"].as_str().expect("a name").to_owned();
    let path = format!("/blobs/{blob}");
    let from_afar = [("X-Forwarded-For", "203.0.113.7")];
    until("the payload is there", || ask(at, "HEAD", &path, &from_afar, b"").status == 200);
    let mut came = 0;
    let refused = loop {
        let answer = ask(at, "GET", &path, &from_afar, b"");
        came += answer.body.len() as u64;
        if answer.status != 200 {
            break answer;
        }
        assert!(came <= SHARE, "{came} bytes");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    let why = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(why.contains("the rest of the month's budget is for what this node fetches"), "{why}");
    let budget = node.ask("status")["budget"].clone();
    let used = budget["used"].as_u64().expect("a number");
    assert!(used <= SHARE && used >= came && came > SHARE * 3 / 4, "{came} bytes came: {budget}");
    // Within the site there is no cap.
    assert_eq!(ask(at, "GET", &path, &[("X-Forwarded-For", "10.0.0.7")], b"").status, 200);
}

#[test]
fn what_apps_take_has_a_quota_and_the_newest_comes_first() {
    const SIZE: u64 = 3 << 20;
    let build = |at: &std::path::Path, seed: u64| drop(tree(at, &[("app.js", &noise(seed, 3 << 20))]));
    let shop = Shop::open(|at| build(at, 1));
    let publish = |seed: u64, more: &[&str]| {
        build(&shop.source(), seed);
        let (source, version) = (shop.source().display().to_string(), format!("{seed}.0.0"));
        say(&shop.publisher, &[&["publish", &source, "--app", "shop", "--version", &version], more].concat()).ok();
    };
    // While it is made, a bundle takes three times its size and 4 MiB, then about twice.
    let quota = format!("gateway.quota={} B", 5 * SIZE + (8 << 20));
    let node = run(&shop.publisher, &["--set", "apps.shop.app_id=com.example.shop", "--set", &quota]);
    let made = || {
        let names =
            fs::read_dir(shop.publisher.join("gateway")).expect("its directory").map(|it| it.expect("an entry"));
        names.filter(|entry| entry.file_name().len() == 64).map(|entry| entry.file_name()).collect::<BTreeSet<_>>()
    };
    until("the first is ready", || made().len() == 1);
    let first = made();
    let watch = Watch::on(vec![shop.publisher.join("gateway")]);
    publish(2, &[]);
    until("there is room for two", || made().len() == 2);
    publish(3, &[]);
    until("the oldest makes room for the newest", || made().len() == 2 && made().is_disjoint(&first));
    let held = || {
        let text = say(&shop.publisher, &["status", "--metrics"]).ok();
        let line = text.lines().find_map(|line| line.strip_prefix("burr_gateway_held_bytes ")).map(str::to_owned);
        line.and_then(|bytes| bytes.parse::<u64>().ok()).expect("a number")
    };
    until("it is counted", || (2 * SIZE..=5 * SIZE + (8 << 20)).contains(&held()));
    assert!(watch.most() <= 5 * SIZE + (8 << 20), "{}", watch.most());
    drop(node);
    let small = run(&shop.publisher, &["--set", "apps.shop.app_id=com.example.shop", "--set", "gateway.quota=1 MiB"]);
    until("nothing fits", || made().is_empty());
    small.hear_log("gateway.quota leaves");
}

#[test]
fn what_clients_get_keeps_the_budget_and_counts() {
    let shop = Shop::open(|at| drop(tree(at, &[("app.js", &noise(7, 400_000))])));
    let mut node = run(&shop.publisher, &["--set", "budget.lan_up=100 kB/s"]);
    node.hear_fact("metadata_verified");
    let at = node.gateway();
    let blob = node.ask("status")["blobs"][0]["blob"].as_str().expect("a name").to_owned();
    let path = format!("/blobs/{blob}");
    until("the payload is there", || ask(at, "HEAD", &path, &[], b"").status == 200);
    let begun = Instant::now();
    let whole = get(at, &path);
    assert_eq!(blake3::hash(&whole.body).to_string(), blob);
    // But for what is on its way to the client.
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    let up = |node: &Node| node.ask("status")["budget"]["traffic"]["lan_up"].as_u64().expect("a number");
    until("all of it is counted", || up(&node) >= whole.body.len() as u64);

    say(&shop.publisher, &["config", "set", "budget.lan_up", "none"]).ok();
    let refused = get(at, &path);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("60")), "{refused:?}");
    assert_eq!(refused.json()["error"], "no_budget");
    assert_eq!(ask(at, "HEAD", &path, &[], b"").status, 200);
    say(&shop.publisher, &["config", "set", "budget.lan_up", "unlimited"]).ok();
    let begun = Instant::now();
    assert_eq!(get(at, &path).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
