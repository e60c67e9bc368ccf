//! A closed mesh of real nodes: how a device comes to belong, who is kept out, and who is cut off. Rule numbers are those
//! of `protocol/README.md`.

mod outsider;
mod rights;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use burr_node::{
    Kind, Node, Publisher, control,
    membership::Joining,
    net::Enroller,
    publisher::{
        Publication,
        fleet::{DEFAULT_MEMBER_FOR, Invite},
    },
    settings::{Resolved, Settings, Source},
};
use burr_protocol::{
    Hash, NodeId,
    fact::Fact,
    member::{Answer, Capability, Certificate, Invitation, Refusal},
    rules::Rules,
    trust::write::{Change, Role},
};
use ed25519_dalek::SigningKey;
use outsider::Outsider;
use tempfile::TempDir;
use tokio::sync::broadcast;

/// Long past anything that should happen: only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher with a fleet, and directories for others.
struct Fleet {
    app: &'static str,
    home: TempDir,
    repository: String,
}

impl Fleet {
    fn new() -> Self {
        Self::of("shop")
    }

    fn of(app: &'static str) -> Self {
        let home = TempDir::new().unwrap();
        let data = home.path().join("publisher");
        let repository = Publisher::init(&data, app, &["stable"], None).unwrap().to_string();
        let fleet = Self { app, home, repository };
        fleet.add("stores");
        fleet
    }

    fn add(&self, name: &str) {
        let mut publisher = self.publisher();
        let keys = vec![publisher.new_key(&Role::Fleet(name.to_owned()), None).unwrap()];
        let change = Change::AddFleet { fleet: name.to_owned(), keys, threshold: 1 };
        assert!(publisher.change(&change, None).unwrap().1);
        publisher.enrol_own_node(&self.data("publisher"), name, None).unwrap();
    }

    fn data(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn publisher(&self) -> Publisher {
        Publisher::open(&self.data("publisher"), self.app).unwrap()
    }

    fn invite(&self, node: &Node) -> Invitation {
        self.invite_as(node, "berlin", Capability::Device)
    }

    fn invite_as(&self, node: &Node, group: &str, capability: Capability) -> Invitation {
        let addresses = vec![node.listeners()[0].to_string()];
        let groups = [group.to_owned()].into();
        self.invite_with(Invite { groups, capabilities: [capability].into(), addresses, ..self.by_file() })
    }

    /// An invitation of a device that can't reach its enroller.
    fn by_file(&self) -> Invite {
        Invite {
            groups: [].into(),
            capabilities: [Capability::Device].into(),
            valid: Duration::from_hours(1),
            member_for: DEFAULT_MEMBER_FOR,
            enroller: burr_node::membership::node(&self.data("publisher")).unwrap(),
            addresses: Vec::new(),
        }
    }

    fn invite_with(&self, invite: Invite) -> Invitation {
        self.publisher().invite("stores", invite, None).unwrap()
    }

    /// Where a node keeps its certificate.
    fn certificate(&self, name: &str) -> PathBuf {
        self.data(name).join("members").join(format!("{}.cert", self.repository))
    }

    /// The private key that signs for a fleet.
    fn key(&self, fleet: &str) -> SigningKey {
        let keys = fs::read_dir(self.data("publisher").join("publish/shop/keys")).unwrap().flatten();
        let of_fleet =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("fleet.{fleet}."));
        let path = keys.map(|entry| entry.path()).find(of_fleet).unwrap();
        let secret: Hash = fs::read_to_string(path).unwrap().trim().parse().unwrap();
        SigningKey::from_bytes(&secret.0)
    }

    /// The publisher's node, which enrols.
    async fn start_publisher(&self) -> Node {
        let data = self.data("publisher");
        let enroller = Enroller::new(move |request| {
            Publisher::open(&data, "shop")
                .unwrap()
                .enrol(request, None)
                .map_or_else(|_| Answer::Refused(Refusal::Unable).encode(), |answer| answer.encode())
        });
        let node = self.start("publisher", &[("cache", "all")], "", Some(enroller)).await;
        control::offer(&node, &self.data("publisher"), "shop").await.unwrap();
        node
    }

    async fn start(&self, name: &str, app: &[(&str, &str)], peers: &str, enroller: Option<Enroller>) -> Node {
        let mut settings = self.settings(name, app, peers);
        settings.enroller = enroller;
        start(settings).await
    }

    fn settings(&self, name: &str, app: &[(&str, &str)], peers: &str) -> Settings {
        let mut resolved = Resolved::load(&self.data(name)).unwrap();
        for (key, value) in app.iter().chain(&[("repository", self.repository.as_str())]) {
            resolved.set_app("shop", key, (*value).to_owned(), Source::Flag).unwrap();
        }
        let settings = [
            ("listen", "127.0.0.1"),
            ("mdns", "false"),
            ("mesh.closed", "true"),
            ("tuning.dial_backoff_max", "2s"),
            ("peers", peers),
        ];
        for (key, value) in settings {
            resolved.set(key, value.to_owned(), Source::Flag).unwrap();
        }
        resolved.settings().unwrap()
    }

    fn publish(&self, version: &str) {
        self.publish_for(version, Rules::default(), None);
    }

    fn publish_for(&self, version: &str, rules: Rules, encrypt_to: Option<&str>) {
        let source = self.data("build");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("index.html"), version).unwrap();
        let publication = Publication { rules, encrypt_to, ..Publication::new(&source, "stable", version) };
        self.publisher().publish(&publication, None, &|_, _| ()).unwrap();
    }
}

async fn start(settings: Settings) -> Node {
    // The task that runs it ends with the shutdown.
    let (node, _running) = Node::start(settings).await.unwrap();
    node
}

/// A new device goes through the whole of it.
async fn join(data: &Path, invitation: &Invitation) -> Result<Certificate, burr_node::Error> {
    let joining = Joining::begin(data, invitation.clone())?;
    let answer = joining.ask().await?;
    joining.finish(&answer)
}

/// One way to a node only.
fn over(node: &Node, transport: &str) -> String {
    let socket = node.listeners()[0];
    match transport {
        "tcp" => format!("/ip4/{}/tcp/{}", socket.ip(), socket.port()),
        _ => format!("/ip4/{}/udp/{}/quic-v1", socket.ip(), socket.port()),
    }
}

async fn hear<T>(facts: &mut broadcast::Receiver<Fact>, wanted: impl Fn(&Fact) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = wanted(&facts.recv().await.expect("the node runs")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("heard in time")
}

async fn dismissed(facts: &mut broadcast::Receiver<Fact>, who: NodeId, words: &str) {
    hear(facts, |fact| match fact {
        Fact::PeerDismissed { node, why } if *node == who && why.contains(words) => Some(()),
        _ => None,
    })
    .await;
}

async fn installed(facts: &mut broadcast::Receiver<Fact>, wanted: &str) {
    hear(facts, |fact| match fact {
        Fact::Update { version, step: burr_protocol::fact::UpdateStep::Active, .. } if version == wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_enrolled_once_and_installs_over_each_transport() {
    // §13.5, §13.6, §13.7
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let publisher = fleet.start_publisher().await;
    for transport in ["tcp", "quic"] {
        let invitation = fleet.invite(&publisher);
        let data = fleet.data(transport);
        let member = join(&data, &invitation).await.unwrap();
        assert_eq!((member.fleet.as_str(), member.groups.len()), ("stores", 1));
        // The same device may ask again, if its answer was lost; another may not.
        assert_eq!(join(&data, &invitation).await.unwrap(), member);
        let again = join(&fleet.data(&format!("thief-{transport}")), &invitation).await.unwrap_err();
        assert_eq!(again.kind(), Kind::BadInput);
        assert!(again.to_string().contains("used already"), "{again}");
        let device = fleet.start(transport, &[("install", "stable")], &over(&publisher, transport), None).await;
        installed(&mut device.facts(), "1.0.0").await;
        device.shutdown().await;
    }
    let names: Vec<_> = fleet.publisher().members("stores").unwrap().into_iter().map(|member| member.serial).collect();
    assert_eq!(names.len(), 3, "the publisher and two devices: {names:?}");
    // Every act is in the log, and the log is whole.
    let log = fleet.publisher().audit().unwrap();
    assert_eq!(log.iter().filter(|entry| entry.act == "enrol").count(), 3);
    publisher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_is_late_or_anothers_is_refused() {
    // §13.5, §13.6
    let fleet = Fleet::new();
    let publisher = fleet.start_publisher().await;
    let invitation = fleet.invite(&publisher);
    let refused = |error: burr_node::Error, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
        assert!(!fleet.certificate("device").exists());
    };
    // By the device's own clock, and by the enroller's.
    let late = Invitation { expires: burr_protocol::Wall(1_700_000_000), ..invitation.clone() };
    refused(join(&fleet.data("device"), &late).await.unwrap_err(), "has expired");
    let file = fs::read_dir(fleet.data("publisher").join("publish/shop/fleets/stores/invitations")).unwrap();
    let file = file.flatten().next().unwrap().path();
    let kept = fs::read_to_string(&file).unwrap();
    let expires = invitation.expires.0.to_string();
    fs::write(&file, kept.replace(&expires, "1700000000")).unwrap();
    refused(join(&fleet.data("device"), &invitation).await.unwrap_err(), "has expired");
    fs::write(&file, kept).unwrap();
    // One that nobody made, and one that pins another publisher's root.
    let made_up = Invitation { nonce: [1; 16], ..invitation.clone() };
    refused(join(&fleet.data("device"), &made_up).await.unwrap_err(), "no such invitation");
    let other = Invitation { repository: burr_protocol::RepositoryId([7; 32]), ..invitation.clone() };
    refused(join(&fleet.data("device"), &other).await.unwrap_err(), "no such invitation");
    // None of that used it up.
    join(&fleet.data("device"), &invitation).await.unwrap();
    publisher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_spoken_with_an_outsider() {
    // §13.7
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    fleet.add("vans");
    // `add` made the publisher a member of the other fleet last.
    fleet.publisher().enrol_own_node(&fleet.data("publisher"), "stores", None).unwrap();
    let publisher = fleet.start_publisher().await;
    let mut facts = publisher.facts();
    let invitation = fleet.invite(&publisher);
    let member = join(&fleet.data("device"), &invitation).await.unwrap();
    let stolen = fs::read(fleet.certificate("device")).unwrap();
    for transport in ["tcp", "quic"] {
        let outsider = Outsider::at(&over(&publisher, transport)).await;
        for protocol in ["/burr/sync/1", "/burr/blobs/1", "/meshsub/1.1.0", "/meshsub/1.2.0", "/ipfs/id/1.0.0"] {
            assert!(!outsider.speaks(protocol).await, "{protocol} over {transport}");
        }
        let named = Certificate { node: outsider.node(), serial: 9, ..member.clone() };
        let expired = Certificate { not_after: burr_protocol::Wall(1_700_000_000), ..named.clone() };
        let foreign = Certificate { fleet: "vans".to_owned(), ..named.clone() };
        let shown = [
            (stolen.clone(), "is that of node"),
            (named.sign(&[&SigningKey::from_bytes(&[9; 32])]).unwrap(), "is not signed as fleet stores signs"),
            (named.sign(&[&fleet.key("vans")]).unwrap(), "is not signed as fleet stores signs"),
            (expired.sign(&[&fleet.key("stores")]).unwrap(), "was good until 2023"),
            (foreign.sign(&[&fleet.key("vans")]).unwrap(), "has no say here"),
            (b"{}".to_vec(), "is malformed"),
        ];
        for (certificate, words) in shown {
            let outsider = outsider.again(&over(&publisher, transport)).await;
            let answer = outsider.show(&certificate).await;
            assert!(answer.as_ref().is_err_and(|why| why.contains(words)), "{words}: {answer:?}");
            dismissed(&mut facts, outsider.node(), words).await;
            assert_eq!(outsider.seen(), 0, "who the node is, is not for outsiders");
            outsider.cut_off().await;
        }
        // One that shows nothing is sent away after a while, and told of.
        let silent = outsider.again(&over(&publisher, transport)).await;
        dismissed(&mut facts, silent.node(), "no certificate was shown").await;
        silent.cut_off().await;
        // With its own certificate the very same node would be let in.
        let good = outsider.again(&over(&publisher, transport)).await;
        assert_eq!(good.show(&named.sign(&[&fleet.key("stores")]).unwrap()).await, Ok(()));
        assert!(good.speaks("/burr/blobs/1").await);
    }
    assert!(publisher.status().await.unwrap().peers.is_empty(), "the agent never took one of them for a peer");
    publisher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_member_cut_off_by_those_who_hear_of_it() {
    // §13.4, §13.7: A publishes, B stands between, C is revoked.
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let a = fleet.start_publisher().await;
    for name in ["b", "c"] {
        join(&fleet.data(name), &fleet.invite(&a)).await.unwrap();
    }
    let b = fleet.start("b", &[("cache", "all")], &a.listeners()[0].to_string(), None).await;
    let mut at_b = b.facts();
    let c = fleet.start("c", &[("install", "stable")], &b.listeners()[0].to_string(), None).await;
    let mut at_c = c.facts();
    installed(&mut at_c, "1.0.0").await;
    let gone = fleet.publisher().revoke("stores", &c.id().to_string()[..8], None).unwrap();
    assert_eq!(gone.node, c.id());
    // A hears of it from its own publisher, B from A by sync alone.
    control::offer(&a, &fleet.data("publisher"), "shop").await.unwrap();
    let expelled = hear(&mut at_b, |fact| match fact {
        Fact::MemberExpelled { node, why } => Some((*node, why.clone())),
        _ => None,
    });
    assert_eq!(expelled.await, (c.id(), "the member was revoked".to_owned()));
    hear(&mut at_c, |fact| matches!(fact, Fact::PeerDisconnected { .. }).then_some(())).await;
    // It comes back, and is told why it may not.
    let why = hear(&mut at_c, |fact| match fact {
        Fact::TurnedAway { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert_eq!(why.await, "the member was revoked");
    let peers: Vec<_> = b.status().await.unwrap().peers.into_iter().map(|peer| peer.node).collect();
    assert_eq!(peers, [a.id()]);
    // What comes out from now on goes past it.
    fleet.publish("2.0.0");
    control::offer(&a, &fleet.data("publisher"), "shop").await.unwrap();
    hear(&mut at_b, |fact| matches!(fact, Fact::FetchCompleted { .. }).then_some(())).await;
    let apps = c.status().await.unwrap().apps;
    assert_eq!(apps[0].active.as_ref().map(|active| active.version.as_str()), Some("1.0.0"));
    assert_eq!(fleet.publisher().members("stores").unwrap().len(), 2);
    let log = fleet.publisher().audit().unwrap();
    assert_eq!(log.iter().filter(|entry| entry.act == "revoke").count(), 1);
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[test]
fn a_request_can_go_as_a_file() {
    // §13.6
    let fleet = Fleet::new();
    let invitation = fleet.invite_with(Invite { capabilities: [Capability::Kiosk].into(), ..fleet.by_file() });
    let request = Joining::begin(&fleet.data("device"), invitation.clone()).unwrap().request();
    let answer = fleet.publisher().enrol(&request, None).unwrap();
    // The courier's own device has no use for it.
    let courier = Joining::begin(&fleet.data("courier"), invitation.clone()).unwrap();
    assert!(courier.finish(&answer.encode()).is_err());
    assert!(!fleet.certificate("courier").exists());
    let member = Joining::begin(&fleet.data("device"), invitation).unwrap().finish(&answer.encode()).unwrap();
    assert_eq!(member.capabilities, [Capability::Kiosk].into());
    let data = fleet.data("device");
    for file in [fleet.certificate("device"), data.join("seal.key"), data.join("identity.key")] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn who_is_no_member_any_more_gets_nothing_by_its_old_invitation() {
    // §13.6, T52: a device may ask again, but not for the key of an epoch that began without it.
    let fleet = Fleet::new();
    let rotate = || assert!(fleet.publisher().rotate_for_members("stores", None).unwrap().1);
    rotate();
    let short = Invite { member_for: Duration::ZERO, ..fleet.by_file() };
    let invitations = [("revoked", fleet.by_file()), ("expired", short)].map(|(name, invite)| {
        let invitation = fleet.invite_with(invite);
        let request = Joining::begin(&fleet.data(name), invitation.clone()).unwrap().request();
        let welcome = fleet.publisher().enrol(&request, None).unwrap();
        assert!(matches!(&welcome, Answer::Welcome(welcome) if !welcome.wrapped.is_empty()), "{name}");
        (name, invitation, request)
    });
    let revoked = burr_node::membership::node(&fleet.data("revoked")).unwrap();
    fleet.publisher().revoke("stores", &revoked.to_string(), None).unwrap();
    // Certificates count to the second.
    std::thread::sleep(Duration::from_millis(1100));
    rotate();
    for (name, invitation, request) in invitations {
        let answer = fleet.publisher().enrol(&request, None).unwrap();
        assert_eq!(answer, Answer::Refused(Refusal::NoMember), "{name}");
        let told = Joining::begin(&fleet.data(name), invitation).unwrap().finish(&answer.encode()).unwrap_err();
        assert!(told.to_string().contains("no member any more"), "{told}");
    }
}

#[test]
fn an_enroller_that_was_killed_while_it_signed_enrols_the_same_device_and_no_other() {
    // §13.6: what a kill leaves is an invitation that is used, and a certificate that is not there yet.
    let fleet = Fleet::new();
    let invitation = fleet.invite_with(fleet.by_file());
    let request = |name: &str| Joining::begin(&fleet.data(name), invitation.clone()).unwrap().request();
    let enrol = |name: &str| fleet.publisher().enrol(&request(name), None).unwrap();
    assert!(matches!(enrol("device"), Answer::Welcome(_)));
    let members = fleet.data("publisher").join("publish/shop/fleets/stores/members");
    let mut signed: Vec<PathBuf> = fs::read_dir(&members).unwrap().flatten().map(|entry| entry.path()).collect();
    signed.sort();
    fs::remove_file(signed.last().unwrap()).unwrap();
    assert_eq!(enrol("thief"), Answer::Refused(Refusal::Used));
    let answer = enrol("device").encode();
    Joining::begin(&fleet.data("device"), invitation.clone()).unwrap().finish(&answer).unwrap();
    assert_eq!(fleet.publisher().members("stores").unwrap().len(), 2, "the publisher and the device");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_strangers_leaves_room_for_those_a_node_chose() {
    // §13.8, in an open mesh: one machine makes up many nodes.
    let home = TempDir::new().unwrap();
    let start = async |name: &str, settings: &[(&str, &str)]| {
        let mut resolved = Resolved::load(&home.path().join(name)).unwrap();
        let common = [("listen", "127.0.0.1"), ("mdns", "false"), ("tuning.dial_backoff_max", "1s")];
        for (key, value) in common.iter().chain(settings) {
            resolved.set(key, (*value).to_owned(), Source::Flag).unwrap();
        }
        Node::start(resolved.settings().unwrap()).await.unwrap().0
    };
    // The kiosk that the device knows is not there yet.
    let kiosk = start("kiosk", &[]).await;
    let (id, port) = (kiosk.id(), kiosk.listeners()[0].port().to_string());
    kiosk.shutdown().await;
    let place = format!("127.0.0.1:{port}");
    let device = start("device", &[("max_connections", "8"), ("peers", place.as_str())]).await;
    let mut facts = device.facts();
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(Outsider::at(&over(&device, "tcp")).await);
    }
    // Of 8 places strangers get 6, and those of one origin 3.
    hear(&mut facts, |fact| matches!(fact, Fact::NoPlace { .. }).then_some(())).await;
    let kiosk = start("kiosk", &[("port", port.as_str())]).await;
    assert_eq!(kiosk.id(), id);
    hear(&mut facts, |fact| (*fact == Fact::PeerConnected { node: id }).then_some(())).await;
    let peers = device.status().await.unwrap().peers;
    assert!(peers.len() <= 4 && peers.iter().any(|peer| peer.node == id), "{} peers", peers.len());
    drop(crowd);
    for node in [device, kiosk] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_with_one_certificate_is_one_member_at_most() {
    // T21, §13.3, §13.8
    const CROWD: usize = 500;
    let fleet = Fleet::new();
    fleet.publish("1.0.0");
    let publisher = fleet.start_publisher().await;
    for name in ["device", "thief"] {
        join(&fleet.data(name), &fleet.invite(&publisher)).await.unwrap();
    }
    let certificate = fs::read(fleet.certificate("thief")).unwrap();
    // As many nodes as one likes, and the certificate of another: none of them gets in.
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let outsider = Outsider::at(&over(&publisher, "tcp")).await;
        assert!(outsider.show(&certificate).await.is_err());
        crowd.push(outsider);
    }
    assert!(publisher.status().await.unwrap().peers.is_empty());
    // The node whose certificate it is, as often as it likes: it has a few connections.
    let key: Hash = fs::read_to_string(fleet.data("thief").join("identity.key")).unwrap().trim().parse().unwrap();
    let mut same = Vec::new();
    for _ in 0..CROWD {
        let member = Outsider::as_node(key.0, &over(&publisher, "tcp")).await;
        let _ = member.show(&certificate).await;
        same.push(member);
    }
    // The last one that was sent away may not have noticed yet.
    let connected = || same.iter().filter(|member| member.is_connected());
    let noticed = async {
        while connected().count() > 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), noticed).await;
    let connected: Vec<&Outsider> = connected().collect();
    assert!((1..=4).contains(&connected.len()), "{}", connected.len());
    assert!(connected[0].speaks("/burr/blobs/1").await, "it is a member");
    // All of them are still there, and hold on to what they have: another member finds its place.
    let peer = publisher.listeners()[0].to_string();
    let device = fleet.start("device", &[("install", "stable")], &peer, None).await;
    installed(&mut device.facts(), "1.0.0").await;
    drop((crowd, same));
    for node in [device, publisher] {
        node.shutdown().await;
    }
}
