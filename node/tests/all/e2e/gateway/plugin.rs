//! The contract with Capgo's plugin (`node/GATEWAY.md`): the requests that its Android and iOS sources send, replayed, and
//! the answers checked as those sources check them.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{capgo::Project, run, until};
use crate::{
    e2e::{
        http::{self, Answer, ask, get, get_with},
        program::{Node, Shop, publish, say},
    },
    support::tree,
};

const DEVICE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

/// A build of a web app.
fn build(at: &Path) {
    tree(at, &[("index.html", b"<h1>shop</h1>"), ("assets/app.js", b"let a = 1;\n".repeat(4000).as_slice())]);
}

/// What the plugin says of its device in each request, from a device that runs `version`.
fn info(version: &str) -> Value {
    json!({
        "platform": "android",
        "device_id": DEVICE,
        "app_id": "com.example.shop",
        "custom_id": "",
        "version_build": "0.9.0",
        "version_code": "12",
        "version_os": "15",
        "version_name": version,
        "plugin_version": "8.51.23",
        "is_emulator": false,
        "is_prod": true,
        "install_source": "com.android.vending",
        "defaultChannel": "",
    })
}

fn with(mut info: Value, more: &Value) -> Value {
    info.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    info
}

#[track_caller]
fn send(node: &Node, method: &str, path: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json; charset=utf-8"), ("Accept", "application/json")];
    ask(node.gateway(), method, path, &headers, body.to_string().as_bytes())
}

/// A node that serves the app `shop` to devices, once it offers this version.
#[track_caller]
fn serve(data: &Path, offers: &str) -> Node {
    let mut node = run(data, &["--set", "apps.shop.app_id=com.example.shop"]);
    offered(&mut node, offers);
    node
}

#[track_caller]
fn offered(node: &mut Node, version: &str) -> Value {
    let mut answer = Value::Null;
    until(&format!("{version} is offered"), || {
        answer = send(node, "POST", "/updates", &info("builtin")).json();
        answer["version"] == version && answer["url"].is_string()
    });
    answer
}

/// The path of an address at this gateway.
#[track_caller]
fn path<'a>(node: &Node, url: &'a Value) -> &'a str {
    let base = format!("http://{}", node.gateway());
    url.as_str().and_then(|url| url.strip_prefix(&base)).unwrap_or_else(|| panic!("{url} is not below {base}"))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    burr_protocol::Hash(sha2::Sha256::digest(bytes).into()).to_string()
}

/// Fetches a bundle as the plugin does and checks what it checks.
#[track_caller]
fn download(node: &Node, update: &Value) -> Vec<u8> {
    let at = path(node, &update["url"]);
    let whole = get(node.gateway(), at);
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/zip")));
    // Interrupted and resumed: the answer must say the same total, and begin where it was asked to.
    let middle = whole.body.len() / 2;
    let rest = get_with(node.gateway(), at, "Range", &format!("bytes={middle}-"));
    let range = format!("bytes {middle}-{}/{}", whole.body.len() - 1, whole.body.len());
    assert_eq!((rest.status, rest.header("content-range")), (206, Some(range.as_str())));
    assert_eq!(rest.body, whole.body[middle..]);
    let past = get_with(node.gateway(), at, "Range", &format!("bytes={}-", whole.body.len()));
    assert_eq!(past.status, 416);
    whole.body
}

#[test]
fn a_build_is_offered_as_a_zip_and_file_by_file() {
    let shop = Shop::open(build);
    let mut node = serve(&shop.publisher, "1.0.0");
    let update = offered(&mut node, "1.0.0");
    let zip = download(&node, &update);
    assert_eq!(update["checksum"], sha256(&zip), "as the plugin checks it");
    assert!(update.get("session_key").is_none() && update.get("error").is_none() && update.get("kind").is_none());

    let manifest = update["manifest"].as_array().expect("a list of files").clone();
    assert_eq!(manifest.len(), 2);
    for entry in &manifest {
        let name = entry["file_name"].as_str().expect("a name");
        let expected = fs::read(shop.source().join(name)).expect("a file of the build");
        let at = path(&node, &entry["download_url"]);
        assert_eq!(get(node.gateway(), at).body, expected, "{name}");
        assert_eq!(entry["file_hash"], sha256(&expected));
        let resumed = get_with(node.gateway(), at, "Range", "bytes=5-");
        assert_eq!((resumed.status, resumed.body.as_slice()), (206, &expected[5..]));
        // A partial download that is whole already: the plugin takes this status for that.
        assert_eq!(get_with(node.gateway(), at, "Range", &format!("bytes={}-", expected.len())).status, 416);
    }
    // How much there is to download of what a device lacks.
    let unknown = json!({ "file_name": "x", "file_hash": "00", "download_url": "http://x" });
    let asked = with(info("builtin"), &json!({ "version": "1.0.0", "manifest": [manifest[0], unknown] }));
    let sizes = send(&node, "POST", "/updates/manifest_size", &asked).json();
    assert_eq!((&sizes["knownFiles"], &sizes["unknownFiles"]), (&json!(1), &json!(1)), "{sizes}");
    let size =
        fs::metadata(shop.source().join(manifest[0]["file_name"].as_str().expect("a name"))).expect("a file").len();
    assert_eq!(sizes["totalSize"], size);

    // The zip is the same after a restart, and when it has to be made again.
    node.stop();
    for damage in [false, true] {
        if damage {
            let bundle = fs::read_dir(shop.publisher.join("gateway")).expect("a directory").next().expect("a bundle");
            fs::write(bundle.expect("an entry").path().join("bundle.zip"), b"PK").expect("damaged");
        }
        let mut node = serve(&shop.publisher, "1.0.0");
        let again = offered(&mut node, "1.0.0");
        assert_eq!((&again["checksum"], download(&node, &again)), (&update["checksum"], zip.clone()));
        node.stop();
    }
}

#[test]
fn what_is_not_newer_or_not_for_the_device_is_said_in_the_plugins_words() {
    let shop = Shop::open(build);
    let mut node = serve(&shop.publisher, "1.0.0");
    let current = send(&node, "POST", "/updates", &info("1.0.0"));
    assert_eq!((current.status, current.header("cache-control")), (200, Some("no-store")));
    assert_eq!(current.json()["kind"], "up_to_date");
    assert_eq!(current.json()["error"], "no_new_version_available");
    let beta = send(&node, "POST", "/updates", &with(info("1.0.0"), &json!({ "defaultChannel": "beta" }))).json();
    assert_eq!((&beta["kind"], &beta["error"]), (&json!("blocked"), &json!("no_channel")));
    let other = send(&node, "POST", "/updates", &with(info("1.0.0"), &json!({ "app_id": "com.example.bank" })));
    assert_eq!((other.status, &other.json()["error"]), (404, &json!("app_not_found")));
    assert_eq!(other.json()["kind"], "failed");

    // A newer one is offered as soon as it is published, and the one before stays for who is just fetching it.
    let before = offered(&mut node, "1.0.0");
    fs::write(shop.source().join("index.html"), "<h1>new</h1>").expect("writable");
    publish(&shop.publisher, &shop.source(), "1.1.0");
    offered(&mut node, "1.1.0");
    assert_eq!(send(&node, "POST", "/updates", &info("1.0.0")).json()["version"], "1.1.0");
    download(&node, &before);
}

#[test]
fn channels_are_listed_chosen_and_given_up_and_survive_a_kill() {
    let shop = Shop::open(build);
    say(&shop.publisher, &["channel", "add", "beta", "--app", "shop"]).ok();
    fs::write(shop.source().join("index.html"), "<h1>beta</h1>").expect("writable");
    let source = shop.source().display().to_string();
    say(&shop.publisher, &["publish", &source, "--app", "shop", "--channel", "beta", "--version", "2.0.0-beta"]).ok();
    let node = serve(&shop.publisher, "1.0.0");

    // List: the device in the query, a bare list, numbers as ids.
    let query =
        format!("/channel_self?device_id={DEVICE}&app_id=com.example.shop&platform=ios&is_prod=true&defaultChannel=");
    let list = get(node.gateway(), &query).json();
    let names: Vec<&str> = list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"stable") && names.contains(&"beta"), "{list}");
    for channel in list.as_array().expect("a list") {
        assert!(channel["id"].is_u64() && channel["allow_self_set"] == true, "{channel}");
        assert_eq!(channel["public"], channel["name"] == "stable");
    }

    let current = |node: &Node| send(node, "PUT", "/channel_self", &info("1.0.0")).json();
    let choose = |node: &Node, channel: &str| {
        send(node, "POST", "/channel_self", &with(info("1.0.0"), &json!({ "channel": channel })))
    };
    assert_eq!((&current(&node)["channel"], &current(&node)["status"]), (&json!("stable"), &json!("default")));
    assert_eq!(choose(&node, "beta").json(), json!({ "status": "ok" }));
    let unknown = choose(&node, "nightly");
    assert_eq!((unknown.status, &unknown.json()["error"]), (404, &json!("channel_not_found")));
    node.kill();

    let mut node = run(&shop.publisher, &["--set", "apps.shop.app_id=com.example.shop"]);
    assert_eq!((&current(&node)["channel"], &current(&node)["status"]), (&json!("beta"), &json!("override")));
    offered(&mut node, "2.0.0-beta");
    // The usual channel is what a device without a choice is on: the plugin forgets its own then.
    assert_eq!(choose(&node, "stable").json()["unset"], true);
    assert_eq!(current(&node)["status"], "default");
    choose(&node, "beta");
    let gone = ask(node.gateway(), "DELETE", &query, &[], b"");
    assert_eq!((gone.status, &current(&node)["channel"]), (200, &json!("stable")));
    drop(node);

    let node =
        run(&shop.publisher, &["--set", "apps.shop.app_id=com.example.shop", "--set", "gateway.self_assign=false"]);
    let refused = choose(&node, "beta");
    assert_eq!((refused.status, &refused.json()["error"]), (403, &json!("channel_self_set_not_allowed")));
}

#[test]
fn what_the_plugin_reports_becomes_receipts_and_the_rest_costs_nothing() {
    let shop = Shop::open(build);
    let node = serve(&shop.publisher, "1.0.0");
    let event = |action: &str, version: &str| {
        let more = json!({ "action": action, "version_name": version, "old_version_name": "builtin", "timestamp": 1 });
        with(info(version), &more)
    };
    // All that the sources send which is no end of an update, single and batched; unknown ones too.
    let progress = [
        "app_anr",
        "app_crash",
        "app_crash_native",
        "app_initialization_failure",
        "app_killed_excessive_resource_usage",
        "app_killed_low_memory",
        "app_launch_ready",
        "app_launch_start",
        "app_launch_timeout",
        "app_memory_warning",
        "app_moved_to_background",
        "app_moved_to_foreground",
        "delete",
        "download_10",
        "download_complete",
        "download_manifest_complete",
        "download_manifest_start",
        "download_zip_complete",
        "download_zip_start",
        "native_app_version_changed",
        "os_version_changed",
        "rate_limit_reached",
        "reset",
        "set_next",
        "something_new",
        "webview_content_process_terminated",
        "webview_dom_content_loaded",
        "webview_javascript_error",
        "webview_page_loaded",
        "webview_render_process_gone",
        "webview_resource_error",
        "webview_security_policy_violation",
        "webview_unclean_restart",
        "webview_unhandled_rejection",
    ];
    let events: Vec<Value> = progress.iter().map(|action| event(action, "1.0.0")).collect();
    assert_eq!(send(&node, "POST", "/stats", &json!(events)).json(), json!({ "status": "ok" }));
    assert_eq!(node.ask("receipts"), json!([]));

    // Every failure, each of a device of its own.
    let failures = [
        "blocked_by_server_url",
        "canonical_path_fail",
        "checksum_fail",
        "checksum_required",
        "decrypt_fail",
        "directory_path_fail",
        "download_fail",
        "download_manifest_brotli_fail:a.js",
        "download_manifest_checksum_fail:a.js",
        "download_manifest_file_fail:a.js",
        "finish_download_fail",
        "insufficient_disk_space",
        "low_mem_fail",
        "manifest_path_fail:a.js",
        "session_key_required",
        "set_fail",
        "unzip_fail",
        "windows_path_fail",
    ];
    let failed = failures.iter().map(|action| {
        let (action, file) =
            action.split_once(':').map_or((*action, String::new()), |(a, file)| (a, format!(":{file}")));
        with(event(action, &format!("1.0.0{file}")), &json!({ "device_id": action }))
    });
    assert_eq!(send(&node, "POST", "/stats", &json!(failed.collect::<Vec<_>>())).status, 200);
    let receipts = node.ask("receipts");
    let receipts = receipts.as_array().expect("a list");
    assert_eq!(receipts.len(), failures.len());
    for receipt in receipts {
        let device = receipt["via"]["device"].as_str().expect("behind a gateway");
        assert_eq!(receipt["via"]["gateway"], node.id());
        let reason = receipt["outcome"]["Failed"]["reason"].as_str().unwrap_or_else(|| panic!("{receipt}"));
        assert!(reason.starts_with(device), "{receipt}");
        assert_eq!((&receipt["version"], &receipt["app"]), (&json!("1.0.0"), &json!("shop")));
    }

    // A device's story: set, found bad, and again after a kill of the gateway. It sends a batch anew until it is told.
    let batch = json!([event("set", "1.0.0"), event("update_fail", "1.0.0")]);
    assert_eq!(send(&node, "POST", "/stats", &batch).status, 200);
    node.kill();
    let node = serve(&shop.publisher, "1.0.0");
    let of_device = |node: &Node| -> Vec<String> {
        let receipts = node.ask("receipts");
        let mine = receipts.as_array().expect("a list").iter().filter(|receipt| receipt["via"]["device"] == DEVICE);
        mine.map(|receipt| receipt["outcome"].to_string()).collect()
    };
    let told = of_device(&node);
    assert!(told[0].contains("Active") && told[1].contains("update_fail"), "{told:?}");
    assert_eq!(send(&node, "POST", "/stats", &event("update_fail", "1.0.0")).json(), json!({ "status": "ok" }));
    assert_eq!(of_device(&node), told);
}

#[test]
fn what_the_plugin_would_never_send_gets_the_right_status() {
    let shop = Shop::open(build);
    let node = serve(&shop.publisher, "1.0.0");
    let at = node.gateway();
    let long = with(info("1.0.0"), &json!({ "custom_id": "x".repeat(70_000) })).to_string();
    let deep = "[".repeat(50_000);
    let many = json!(vec![with(info("1.0.0"), &json!({ "action": "set" })); 201]).to_string();
    let bad_device =
        with(info("1.0.0"), &json!({ "device_id": "../../etc/passwd", "action": "set", "channel": "beta" }));
    let wrong = with(info("1.0.0"), &json!({ "device_id": 7, "action": [], "channel": {} })).to_string();
    for path in ["/updates", "/stats", "/channel_self"] {
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("null", 400),
            ("{}", 400),
            ("\"text\"", 400),
            (deep.as_str(), 400),
            (wrong.as_str(), 400),
            (bad_device.to_string().as_str(), 400),
        ] {
            let answer = ask(at, "POST", path, &[], body.as_bytes());
            assert_eq!(answer.status, status, "{path} {}: {answer:?}", &body[..body.len().min(60)]);
            assert_eq!(answer.json()["kind"], "failed");
        }
        let chunked =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        let endless = [chunked.as_bytes(), b"180000\r\n", &vec![b' '; 3 << 19], b"\r\n180000\r\n"].concat();
        assert!(http::raw(at, &endless).is_none_or(|answer| answer.status == 413), "{path}");
    }
    assert_eq!(ask(at, "POST", "/updates", &[], long.as_bytes()).status, 413);
    assert_eq!(ask(at, "POST", "/channel_self", &[], long.as_bytes()).status, 413);
    assert_eq!(ask(at, "POST", "/stats", &[], many.as_bytes()).status, 413);
    let announced = ask(at, "POST", "/stats", &[("Content-Length", "99999999999")], b"");
    assert!(matches!(announced.status, 400 | 413), "{announced:?}");
    for path in [
        "/bundles/..%2f..%2fburr.toml",
        "/bundles/00.zip",
        "/bundles/../gateway/index.json",
        "/bundles/x/y",
        "/bundles/",
    ] {
        assert_eq!(get(at, path).status, 404, "{path}");
    }
    assert_eq!(get(at, "/updates").status, 405);
    // A host that would lead devices elsewhere, or break out of the address.
    let request = format!(
        "POST /updates HTTP/1.1\r\nHost: evil.example/x\"\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
        info("builtin").to_string().len(),
        info("builtin")
    );
    let answer = http::raw(at, request.as_bytes());
    assert!(answer.is_none_or(|answer| answer.status == 400));
    // And the others are served as before.
    assert_eq!(send(&node, "POST", "/updates", &info("1.0.0")).status, 200);
}

#[test]
fn a_zip_of_capgos_command_line_is_served_byte_for_byte() {
    let shop = Shop::open(build);
    let Some(project) = Project::new(&shop.data("project"), build) else { return };
    let (zip, checksum) = project.zip("1.1.0");
    let source = zip.display().to_string();
    let publish = ["publish", &source, "--app", "shop", "--version", "1.1.0", "--as-is", "--json"];
    let refused = say(&shop.publisher, &[&publish[..], &["--checksum", &"0".repeat(64)]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains(&checksum), "{refused:?}");
    say(&shop.publisher, &[&publish[..], &["--checksum", &checksum]].concat()).ok();
    let mut node = serve(&shop.publisher, "1.1.0");
    let update = offered(&mut node, "1.1.0");
    assert_eq!(update["checksum"], checksum);
    assert_eq!(download(&node, &update), fs::read(&zip).expect("the zip"));
    // Its files can be had one by one too.
    for entry in update["manifest"].as_array().expect("a list") {
        let file = get(node.gateway(), path(&node, &entry["download_url"])).body;
        let name = entry["file_name"].as_str().expect("a name");
        assert_eq!(file, fs::read(shop.data("project").join("dist").join(name)).expect("a file"));
        assert_eq!(entry["file_hash"], sha256(&file));
    }
}

/// What the plugin does with an encrypted bundle (`CryptoCipher.java`, `AES.swift`): the session key and the checksum are
/// opened with the app's public key, the zip is decrypted with the one and compared with the other.
const OPEN: &str = r"
const { createDecipheriv, createHash, publicDecrypt, constants } = require('node:crypto');
const { readFileSync, writeFileSync } = require('node:fs');
const [, , keyFile, updateFile, zip, out] = process.argv;
const key = readFileSync(keyFile, 'utf8');
const update = JSON.parse(readFileSync(updateFile, 'utf8'));
const open = (sealed) => publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, sealed);
const [iv, sealed] = update.session_key.split(':').map((text) => Buffer.from(text, 'base64'));
const decipher = createDecipheriv('aes-128-cbc', open(sealed), iv);
const plain = Buffer.concat([decipher.update(readFileSync(zip)), decipher.final()]);
const expected = open(Buffer.from(update.checksum, 'hex')).toString('hex');
const found = createHash('sha256').update(plain).digest('hex');
if (expected !== found) throw new Error(`checksum ${found}, not ${expected}`);
writeFileSync(out, plain);
";

#[test]
fn an_encrypted_zip_of_capgos_command_line_passes_the_plugins_own_check() {
    let shop = Shop::open(build);
    let Some(project) = Project::new(&shop.data("project"), build) else { return };
    let key = project.key();
    let (zip, checksum) = project.zip("1.1.0");
    let (encrypted, sealed, session_key) = project.encrypt(&zip, &checksum);
    let source = encrypted.display().to_string();
    let publish = ["publish", &source, "--app", "shop", "--version", "1.1.0", "--as-is"];
    say(&shop.publisher, &[&publish[..], &["--checksum", &sealed, "--session-key", &session_key]].concat()).ok();

    // From another node, which has no secret of anybody's.
    let publisher = Node::start(&shop.publisher, &[]);
    let address = publisher.address().to_string();
    let link = shop.link.replace("shop/stable@", "shop@");
    let mut node =
        run(&shop.data("kiosk"), &["--cache", &link, "--peer", &address, "--set", "apps.shop.app_id=com.example.shop"]);
    let update = offered(&mut node, "1.1.0");
    assert_eq!((&update["checksum"], &update["session_key"]), (&json!(sealed), &json!(session_key)));
    assert!(update.get("manifest").is_none(), "{update}");
    let bytes = download(&node, &update);
    assert_eq!(bytes, fs::read(&encrypted).expect("the zip"));

    let at = |name: &str| shop.data(name);
    fs::write(at("open.cjs"), OPEN).expect("scratch");
    fs::write(at("key.pem"), key).expect("scratch");
    fs::write(at("update.json"), update.to_string()).expect("scratch");
    fs::write(at("served.zip"), bytes).expect("scratch");
    let mut open = project.node(&at("open.cjs"));
    open.args([at("key.pem"), at("update.json"), at("served.zip"), at("opened.zip")]);
    crate::e2e::program::run(open).ok();
    assert_eq!(fs::read(at("opened.zip")).expect("opened"), fs::read(&zip).expect("the zip"));
}
