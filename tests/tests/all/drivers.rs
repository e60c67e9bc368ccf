//! Both drivers tell the first story: what the simulator says of three nodes, three real ones do.

use std::{fs, path::Path, time::Duration};

use burr_node::{
    Node, Publisher, control,
    publisher::Publication,
    settings::{Resolved, Source},
};
use burr_protocol::receipt::{Outcome, Receipt};
use burr_sim::story;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nodes_end_where_the_simulated_ones_do() {
    let told = story::three_nodes("parity");

    let home = tempfile::tempdir().unwrap();
    let data = |name: &str| home.path().join(name);
    let repository = Publisher::init(&data("publisher"), "shop", &["stable"], None).unwrap().to_string();
    let app = [("repository", repository.as_str())];
    let caching = [("collect", "true")];
    publish(&data("publisher"), "1.0.0", "works");
    let publisher = start(&data("publisher"), &app, &caching).await;
    let kiosk = start(&data("kiosk"), &app, &[("collect", "true"), ("peers", &address(&publisher))]).await;
    control::offer(&publisher, &data("publisher"), "shop").await.unwrap();
    let device_app = [app[0], ("install", "stable"), ("health", "grep -q works index.html")];
    let device = start(&data("device"), &device_app, &[("peers", &address(&kiosk))]).await;
    receipts(&kiosk, 1).await;

    publish(&data("publisher"), "2.0.0", "broken");
    control::offer(&publisher, &data("publisher"), "shop").await.unwrap();
    let receipts = receipts(&kiosk, told.receipts).await;
    let outcomes: Vec<_> = receipts.iter().map(|r| (r.version.as_str(), r.outcome == Outcome::Active)).collect();
    assert_eq!(outcomes, [("1.0.0", true), ("2.0.0", false)]);
    let apps = device.status().await.unwrap().apps;
    assert_eq!(apps[0].active.as_ref().map(|active| active.version.clone()), told.active);
    let page = data("device").join("apps/shop/current/index.html");
    assert_eq!(fs::read_to_string(page).unwrap(), "works");
    assert!(told.lines.iter().any(|line| line.contains("rolled back")), "{told}");
    for node in [publisher, kiosk, device] {
        node.shutdown().await;
    }
}

fn publish(data: &Path, version: &str, page: &str) {
    let source = data.join("build");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("index.html"), page).unwrap();
    Publisher::open(data, "shop")
        .unwrap()
        .publish(&Publication::new(&source, "stable", version), None, &|_, _| ())
        .unwrap();
}

async fn start(data: &Path, app: &[(&str, &str)], settings: &[(&str, &str)]) -> Node {
    let mut resolved = Resolved::load(data).unwrap();
    for (name, value) in app {
        resolved.set_app("shop", name, (*value).to_owned(), Source::Flag).unwrap();
    }
    for (name, value) in [("listen", "127.0.0.1"), ("mdns", "false")].iter().chain(settings) {
        resolved.set(name, (*value).to_owned(), Source::Flag).unwrap();
    }
    // The task that runs it ends with the shutdown.
    let (node, _running) = Node::start(resolved.settings().unwrap()).await.unwrap();
    node
}

fn address(node: &Node) -> String {
    node.listeners()[0].to_string()
}

/// Waits until a node keeps so many receipts.
async fn receipts(node: &Node, count: usize) -> Vec<Receipt> {
    let mut facts = node.facts();
    let kept = async {
        loop {
            let receipts = node.receipts().await.unwrap();
            if receipts.len() >= count {
                return receipts;
            }
            facts.recv().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.unwrap_or_else(|_| panic!("{count} receipts did not come in time"))
}
