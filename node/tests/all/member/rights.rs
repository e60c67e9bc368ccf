//! What a certificate is good for (§13.9): its groups in the rules of releases, and what others leave to a capability.

use burr_node::{
    Kind, Node, control,
    membership::Joining,
    publisher::fleet::Invite,
    settings::{Resolved, Source},
};
use burr_protocol::{
    fact::Fact,
    gateway::{Ended, Report, Told},
    member::{Capability, Certificate},
    receipt::Outcome,
    rules::Rules,
};

use super::{Fleet, hear, installed, join, start};

impl Fleet {
    /// A new member, enrolled by the publisher's node.
    async fn enrol(&self, name: &str, publisher: &Node, group: &str, capability: Capability) {
        join(&self.data(name), &self.invite_as(publisher, group, capability)).await.unwrap();
    }

    /// Brings a node what the publisher has: its own on the same machine, another as a courier's medium does.
    async fn tell(&self, node: &Node) {
        control::offer(node, &self.data("publisher"), "shop").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_for_a_group_goes_to_those_that_their_fleet_put_there() {
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let publisher = fleet.start_publisher().await;
    for (name, group) in [("berlin", "berlin"), ("bonn", "bonn")] {
        fleet.enrol(name, &publisher, group, Capability::Device).await;
    }
    let peer = publisher.listeners()[0].to_string();
    let berlin = fleet.start("berlin", &[("install", "stable")], &peer, None).await;
    let bonn = fleet.start("bonn", &[("install", "stable")], &peer, None).await;
    let (mut at_berlin, mut at_bonn) = (berlin.facts(), bonn.facts());
    installed(&mut at_berlin, "1.0.0").await;
    installed(&mut at_bonn, "1.0.0").await;
    let audience = Some("group = \"berlin\"".parse().unwrap());
    fleet.publish_for("2.0.0", Rules { audience, ..Rules::default() }, None);
    fleet.tell(&publisher).await;
    installed(&mut at_berlin, "2.0.0").await;
    let why = hear(&mut at_bonn, |fact| match fact {
        Fact::Waiting { why, .. } if why.contains("2.0.0") => Some(why.clone()),
        _ => None,
    });
    assert!(why.await.contains("it is for devices with group = \"berlin\""));
    let status = bonn.status().await.unwrap();
    assert_eq!(status.apps[0].active.as_ref().unwrap().version, "1.0.0");
    let own = status.memberships[0].clone();
    assert_eq!((own.groups, own.capabilities, own.why_not), (vec!["bonn".to_owned()], vec![Capability::Device], None));
    let shown = &status.peers[0];
    assert_eq!(shown.capabilities, [Capability::Operator], "what the publisher's node showed");

    // Who is taken out of the fleet is in no group any more, and its status says so.
    fleet.publisher().revoke("stores", &berlin.id().to_string(), None).unwrap();
    let audience = Some("group != \"berlin\"".parse().unwrap());
    fleet.publish_for("3.0.0", Rules { audience, ..Rules::default() }, None);
    bonn.shutdown().await;
    berlin.shutdown().await;
    let mut alone = fleet.settings("berlin", &[("install", "stable")], "");
    alone.agent.closed = None;
    let alone = start(alone).await;
    let mut facts = alone.facts();
    fleet.tell(&alone).await;
    installed(&mut facts, "3.0.0").await;
    let own = alone.status().await.unwrap().memberships.remove(0);
    assert_eq!(own.why_not.as_deref(), Some("the member was revoked"));
    alone.shutdown().await;
    publisher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_two_apps_is_in_the_groups_of_both_their_fleets() {
    let fleets = [Fleet::new(), Fleet::of("till")];
    let data = fleets[0].data("device");
    let mut resolved = Resolved::load(&data).unwrap();
    for (fleet, version) in fleets.iter().zip(["1.0.0", "2.0.0"]) {
        let group = format!("those-of-{}", fleet.app);
        let invitation = fleet.invite_with(Invite { groups: [group.clone()].into(), ..fleet.by_file() });
        let joining = Joining::begin(&data, invitation).unwrap();
        let answer = fleet.publisher().enrol(&joining.request(), None).unwrap();
        joining.finish(&answer.encode()).unwrap();
        let audience = Some(format!("group = \"{group}\"").parse().unwrap());
        fleet.publish_for(version, Rules { audience, ..Rules::default() }, None);
        for (key, value) in [("repository", fleet.repository.as_str()), ("install", "stable")] {
            resolved.set_app(fleet.app, key, value.to_owned(), Source::Flag).unwrap();
        }
    }
    for (key, value) in [("listen", "127.0.0.1"), ("mdns", "false")] {
        resolved.set(key, value.to_owned(), Source::Flag).unwrap();
    }
    let device = start(resolved.settings().unwrap()).await;
    let mut facts = device.facts();
    for (fleet, version) in fleets.iter().zip(["1.0.0", "2.0.0"]) {
        control::offer(&device, &fleet.data("publisher"), fleet.app).await.unwrap();
        installed(&mut facts, version).await;
    }
    let memberships = device.status().await.unwrap().memberships;
    assert!(memberships.len() == 2 && memberships.iter().all(|own| own.why_not.is_none()), "{memberships:?}");
    device.shutdown().await;

    // In a closed mesh it shows the certificate of the fleet that it is told.
    resolved.set("mesh.closed", "true".to_owned(), Source::Flag).unwrap();
    let unclear = resolved.settings().unwrap_err();
    assert!(unclear.to_string().contains("of several fleets"), "{unclear}");
    for fleet in &fleets {
        resolved.set("mesh.fleets", format!("stores@{}", fleet.repository), Source::Flag).unwrap();
        let agent = resolved.settings().unwrap().agent;
        let shown = Certificate::read(&agent.certificates[0]).unwrap();
        assert_eq!((shown.repository.to_string(), agent.certificates.len()), (fleet.repository.clone(), 2));
        assert_eq!(agent.closed.unwrap().fleets.len(), 1);
    }
}

#[test]
fn no_device_says_itself_in_which_groups_it_is() {
    let home = tempfile::tempdir().unwrap();
    let mut resolved = Resolved::load(home.path()).unwrap();
    resolved.set("attributes", "group=berlin".to_owned(), Source::Flag).unwrap();
    let error = resolved.settings().unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("its certificate does"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_device_is_not_believed_that_it_collects() {
    // device ── liar, which claims to collect
    //   └────── relay
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let publisher = fleet.start_publisher().await;
    for (name, capability) in
        [("relay", Capability::Relay), ("device", Capability::Device), ("liar", Capability::Device)]
    {
        fleet.enrol(name, &publisher, "berlin", capability).await;
    }
    // The tools refuse it; what is there to stop is who changes them.
    let mut resolved = Resolved::load(&fleet.data("liar")).unwrap();
    for (key, value) in [("mesh.closed", "true"), ("collect", "true")] {
        resolved.set(key, value.to_owned(), Source::Flag).unwrap();
    }
    let refused = resolved.settings().unwrap_err();
    assert!(refused.to_string().contains("its certificate does not say so"), "{refused}");

    let mut claims = fleet.settings("liar", &[], "");
    claims.agent.collect = true;
    let liar = start(claims).await;
    let mut at_liar = liar.facts();
    let device = fleet.start("device", &[("install", "stable")], &liar.listeners()[0].to_string(), None).await;
    hear(&mut at_liar, |fact| (*fact == Fact::PeerConnected { node: device.id() }).then_some(())).await;
    // Only now comes somebody who has the release, so that the receipt is made while the liar is there.
    let peers = format!("{} {}", publisher.listeners()[0], device.listeners()[0]);
    let relay = fleet.start("relay", &[("cache", "all")], &peers, None).await;
    let mut at_relay = relay.facts();
    let receipt = hear(&mut at_relay, |fact| match fact {
        Fact::ReceiptKept { device, version, .. } => Some((*device, version.clone())),
        _ => None,
    });
    assert_eq!(receipt.await, (device.id(), "1.0.0".to_owned()));
    let peers = device.status().await.unwrap().peers;
    let shown = peers.iter().find(|peer| peer.node == liar.id()).unwrap();
    assert_eq!((shown.collects, &shown.capabilities[..]), (false, &[Capability::Device][..]));
    for node in [device, liar, relay, publisher] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_speaks_for_devices_and_nobody_else_does() {
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let publisher = fleet.start_publisher().await;
    for (name, capability) in [("gateway", Capability::Gateway), ("liar", Capability::Device)] {
        fleet.enrol(name, &publisher, "berlin", capability).await;
    }
    let mut at_publisher = publisher.facts();
    let peer = publisher.listeners()[0].to_string();
    let ended = |outcome| Ended { channel: "stable".to_owned(), version: "1.0.0".to_owned(), active: None, outcome };
    let report = |device: &str| Report {
        app: "shop".to_owned(),
        device: device.to_owned(),
        what: Told::Outcomes(vec![ended(Outcome::Active)]),
    };
    let mut nodes = Vec::new();
    for (name, behind) in [("liar", "made-up"), ("gateway", "till-1")] {
        let node = fleet.start(name, &[("cache", "all")], &peer, None).await;
        hear(&mut node.facts(), |fact| matches!(fact, Fact::FetchCompleted { .. }).then_some(())).await;
        node.report(report(behind)).await.unwrap().unwrap();
        assert_eq!(node.receipts().await.unwrap().len(), 1, "{name} holds it");
        nodes.push(node);
    }
    hear(&mut at_publisher, |fact| matches!(fact, Fact::ReceiptKept { .. }).then_some(())).await;
    // What the liar installs itself comes by the same stream, after what it made up.
    let liar = nodes.remove(0);
    let id = liar.id();
    liar.shutdown().await;
    let liar = fleet.start("liar", &[("install", "stable")], &peer, None).await;
    hear(&mut at_publisher, |fact| match fact {
        Fact::ReceiptKept { device, .. } if *device == id => Some(()),
        _ => None,
    })
    .await;
    let kept = publisher.receipts().await.unwrap();
    let behind: Vec<_> =
        kept.iter().filter_map(|receipt| receipt.via.as_ref()).map(|via| via.device.as_str()).collect();
    assert_eq!(behind, ["till-1"], "{kept:?}");
    for node in nodes.into_iter().chain([liar, publisher]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kiosk_carries_for_its_fleet_and_is_not_given_the_fleets_key() {
    let fleet = Fleet::new();
    let publisher = fleet.start_publisher().await;
    fleet.enrol("early", &publisher, "berlin", Capability::Kiosk).await;
    assert!(fleet.publisher().rotate_for_members("stores", None).unwrap().1);
    fleet.enrol("late", &publisher, "berlin", Capability::Kiosk).await;
    fleet.enrol("device", &publisher, "berlin", Capability::Device).await;
    fleet.publish_for("1.0.0", Rules::default(), Some("stores"));
    fleet.tell(&publisher).await;
    let peer = publisher.listeners()[0].to_string();
    for name in ["early", "late"] {
        let kiosk = fleet.start(name, &[("cache", "all"), ("install", "stable")], &peer, None).await;
        let mut at_kiosk = kiosk.facts();
        let why = hear(&mut at_kiosk, |fact| match fact {
            Fact::Waiting { why, .. } if why.contains("not a member") => Some(why.clone()),
            _ => None,
        });
        assert!(why.await.contains("fleet stores in epoch 1"), "{name}");
        kiosk.shutdown().await;
    }
    let device = fleet.start("device", &[("install", "stable")], &peer, None).await;
    installed(&mut device.facts(), "1.0.0").await;
    for node in [device, publisher] {
        node.shutdown().await;
    }
}
