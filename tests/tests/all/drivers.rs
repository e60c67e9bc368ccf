//! Both drivers tell the first story: what the simulator says of three nodes, three real ones do. And what real nodes were
//! told, told to the same agents again, leads to the same.

use std::{fs, path::Path, time::Duration};

use burr_node::{
    Node, Publisher, control,
    publisher::Publication,
    settings::{Resolved, Source},
};
use burr_protocol::{
    action::{Action, Input},
    fact::{Fact, UpdateStep},
    flight::Recording,
    receipt::{Outcome, Receipt, SignedReceipt},
};
use burr_sim::{
    replay::{Waits, Work, replay},
    story,
};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_real_nodes_were_told_leads_to_the_same_again() {
    let home = tempfile::tempdir().unwrap();
    let (kiosk_data, device_data) = (home.path().join("kiosk"), home.path().join("device"));
    let (kiosk_flight, device_flight) = (home.path().join("flight/kiosk"), home.path().join("flight/device"));
    let recorded = |directory: &Path| directory.to_str().unwrap().to_owned();
    let repository = Publisher::init(&kiosk_data, "shop", &["stable"], None).unwrap().to_string();
    let app = [("repository", repository.as_str()), ("install", "stable"), ("health", "grep -q works index.html")];
    publish(&kiosk_data, "1.0.0", "works");
    let flight = recorded(&kiosk_flight);
    let kiosk = start(&kiosk_data, &app[..1], &[("collect", "true"), ("flight_recorder", &flight)]).await;
    control::offer(&kiosk, &kiosk_data, "shop").await.unwrap();
    let flight = recorded(&device_flight);
    let peers = address(&kiosk);
    let device = start(&device_data, &app, &[("peers", &peers), ("flight_recorder", &flight)]).await;
    receipts(&kiosk, 1).await;
    // A run that begins with what the one before left, and a release that is bad.
    device.shutdown().await;
    publish(&kiosk_data, "2.0.0", "broken");
    control::offer(&kiosk, &kiosk_data, "shop").await.unwrap();
    let device = start(&device_data, &app, &[("peers", &peers), ("flight_recorder", &flight)]).await;
    let kept = receipts(&kiosk, 2).await;
    assert_ne!(kept[1].outcome, Outcome::Active);
    for node in [device, kiosk] {
        node.shutdown().await;
    }

    let (mut rolled_back, mut staged) = (0, 0);
    for (directory, name) in [(&kiosk_flight, "000001"), (&device_flight, "000001"), (&device_flight, "000002")] {
        let bytes = fs::read(directory.join(format!("{name}.flight"))).unwrap();
        let recording = Recording::read(&bytes).unwrap();
        let (mut inputs, mut waits) = (0, Waits::default());
        let agent = replay(
            &recording,
            |_| (),
            |step| {
                assert!(step.same, "{name}: {:?} led to {:?}", step.moment.input, step.actions);
                inputs += 1;
                waits.take(step);
                rolled_back += step.actions.iter().filter(|action| is_rolled_back(action)).count();
            },
        );
        assert!(inputs > 10 && inputs == recording.moments.len(), "{inputs} inputs");
        // Each run writes, and all that it does it does within the test's time.
        assert!(!waits.of(Work::Write).is_empty(), "{waits}");
        assert!(waits.of(Work::Write).iter().all(|took| *took < PATIENCE), "{waits}");
        staged += waits.of(Work::Stage).len();
        if directory == &kiosk_flight {
            let again: Vec<_> = agent.unwrap().receipts().iter().filter_map(SignedReceipt::peek).collect();
            assert_eq!(again, kept);
        }

        // One that lost an input does not pass for the same.
        let mut other = recording;
        other.moments.retain(|moment| !matches!(moment.input, Input::Connected { .. }));
        let mut differ = 0;
        replay(&other, |_| (), |step| differ += usize::from(!step.same)).unwrap();
        assert!(differ > 0, "nobody connected, and all went on as before");
    }
    assert_eq!((rolled_back, staged), (1, 2));
}

fn is_rolled_back(action: &Action) -> bool {
    matches!(action, Action::Tell(Fact::Update { step: UpdateStep::RolledBack { .. }, .. }))
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
