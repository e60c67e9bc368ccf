//! Devices behind a gateway: what they are offered, and what becomes of their reports (`protocol/README.md` section 15).

use std::collections::BTreeMap;

use burr_protocol::{
    Agent, NodeId, Now, Time, Wall,
    action::{Action, Input, Ticket, Token},
    config::{Config, Follow},
    gateway::{self, Check, Declined, Ended, Refusal, Report, Told, Via},
    policy::Skip,
    receipt::{Outcome, Receipt, ReceiptError, SignedReceipt},
    record::Record,
    rules::Rules,
    trust::write::Repository,
};
use ed25519_dalek::SigningKey;

use crate::trust::repository::{self, NOW, keys, release, verified};

const DEVICE: &str = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";

fn check(version: &str) -> Check<'_> {
    Check { device: DEVICE, version, native: "1.0.0", platform: "android" }
}

/// A shop with releases 1.0 and 2.0 on `stable`, the newest under these rules.
fn shop(rules: Rules) -> Repository {
    let mut shop = repository::shop();
    repository::publish(&mut shop, "stable", 1);
    let newest = burr_protocol::release::Release { rules, ..release("stable", 2) };
    shop.release(&newest, [2; 32], &keys(), NOW).unwrap();
    shop
}

fn decide(shop: &Repository, check: Check<'_>) -> Result<String, Refusal> {
    let verified = verified(shop, None).unwrap();
    gateway::decide(&verified, "shop", "stable", check, &BTreeMap::new(), NOW)
        .map(|offer| offer.release().version.clone())
}

#[test]
fn a_device_is_offered_what_is_newer_than_what_it_runs() {
    // §15.2
    let shop = shop(Rules::default());
    assert_eq!(decide(&shop, check("1.0")).unwrap(), "2.0");
    // What it was installed with counts by the native version.
    assert_eq!(decide(&shop, check("builtin")).unwrap(), "2.0");
    assert_eq!(
        decide(&shop, Check { native: "3.0.0", ..check("") }),
        Err(Refusal::Newer { version: "2.0".to_owned() })
    );
    assert_eq!(decide(&shop, check("2.0")), Err(Refusal::Skip(Skip::UpToDate)));
    // From elsewhere: by what the version says.
    assert_eq!(decide(&shop, check("1.5")).unwrap(), "2.0");
    assert_eq!(decide(&shop, check("2.5")), Err(Refusal::Newer { version: "2.0".to_owned() }));
    let verified = verified(&shop, None).unwrap();
    let nothing = gateway::decide(&verified, "shop", "beta", check("1.0"), &BTreeMap::new(), NOW);
    assert_eq!(nothing.unwrap_err(), Refusal::Skip(Skip::Nothing));
    let late = Wall(verified.expires().0 + 400 * repository::DAY);
    let stale = gateway::decide(&verified, "shop", "stable", check("1.0"), &BTreeMap::new(), late).unwrap_err();
    assert!(matches!(stale, Refusal::Skip(Skip::Stale { .. })), "{stale}");
}

#[test]
fn a_releases_rules_hold_for_devices_behind_a_gateway() {
    // §15.2
    let native = shop(Rules { min_native: Some("2.0.0".to_owned()), ..Rules::default() });
    let refusal = decide(&native, check("1.0")).unwrap_err();
    assert!(refusal.needs_native(), "{refusal}");
    assert_eq!(decide(&native, Check { native: "2.1.0", ..check("1.0") }).unwrap(), "2.0");
    let apple = shop(Rules { platforms: vec!["ios".to_owned()], ..Rules::default() });
    assert!(decide(&apple, check("1.0")).is_err());
    assert_eq!(decide(&apple, Check { platform: "ios", ..check("1.0") }).unwrap(), "2.0");

    let half = shop(Rules { rollout: 5000, ..Rules::default() });
    let ids: Vec<String> = (0..400).map(|number| format!("device-{number}")).collect();
    let taken = |shop: &Repository| -> Vec<bool> {
        ids.iter().map(|id| decide(shop, Check { device: id, ..check("1.0") }).is_ok()).collect()
    };
    let (first, again) = (taken(&half), taken(&half));
    assert_eq!(first, again);
    let count = first.iter().filter(|taken| **taken).count();
    assert!((140..260).contains(&count), "{count} of 400");
}

#[test]
fn a_devices_own_choice_goes_before_its_apps_and_that_before_the_gateways() {
    // §15.3
    assert_eq!(gateway::channel(Some("beta"), "dev", "stable"), "beta");
    assert_eq!(gateway::channel(None, "dev", "stable"), "dev");
    assert_eq!(gateway::channel(None, "", "stable"), "stable");
}

/// A gateway's agent whose disk the test is.
struct Node {
    agent: Agent,
    now: u64,
    disk: Vec<Record>,
    pending: Vec<(Token, Vec<Record>)>,
}

impl Node {
    fn config(shop: &Repository) -> Config {
        let follow = Follow { repository: shop.id(), app: "shop".to_owned(), cache: Some(None), install: None };
        Config { follows: vec![follow], ..Config::default() }
    }

    fn new(shop: &Repository) -> Self {
        let mut node = Self::restarted(shop, Vec::new());
        node.handle(Input::Import { repository: shop.id(), pack: shop.pack().to_vec() });
        node.write();
        node
    }

    fn restarted(shop: &Repository, disk: Vec<Record>) -> Self {
        let key = SigningKey::from_bytes(&[1; 32]);
        let now = Now { time: Time(0), wall: Some(NOW) };
        let (agent, facts) = Agent::new(key, Self::config(shop), disk.clone(), BTreeMap::new(), now);
        assert_eq!(facts, []);
        Self { agent, now: 0, disk, pending: Vec::new() }
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        self.now += 1;
        let mut actions = Vec::new();
        let wall = Some(Wall(NOW.0 + i64::try_from(self.now).unwrap()));
        self.agent.handle(Now { time: Time(self.now), wall }, input, &mut actions);
        for action in &actions {
            if let Action::Persist { token, records } = action {
                self.pending.push((*token, records.clone()));
            }
        }
        actions
    }

    /// All that is pending becomes durable.
    fn write(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (token, records) in std::mem::take(&mut self.pending) {
            self.disk.extend(records);
            actions.extend(self.handle(Input::Stored(token)));
        }
        actions
    }

    /// A device reports; the answers before and after the write.
    fn report(&mut self, device: &str, what: Told) -> [Vec<Result<(), Declined>>; 2] {
        let report = Report { app: "shop".to_owned(), device: device.to_owned(), what };
        let before = self.handle(Input::Reported { ticket: Ticket(7), report });
        [answers(&before), answers(&self.write())]
    }

    fn receipts(&self) -> Vec<Receipt> {
        self.agent.receipts().iter().map(|signed| signed.verify().unwrap()).collect()
    }
}

fn answers(actions: &[Action]) -> Vec<Result<(), Declined>> {
    let answer = |action: &Action| match action {
        Action::Answer { ticket: Ticket(7), result } => Some(*result),
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

fn ended(version: &str, outcome: Outcome) -> Told {
    Told::Outcomes(vec![Ended { channel: "stable".to_owned(), version: version.to_owned(), active: None, outcome }])
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.to_owned() }
}

#[test]
fn a_report_is_answered_once_it_is_on_disk_and_becomes_a_receipt_that_says_whose_word_it_is() {
    // §15.4, §10.1
    let shop = shop(Rules::default());
    let mut node = Node::new(&shop);
    assert_eq!(node.report(DEVICE, ended("2.0", Outcome::Active)), [vec![], vec![Ok(())]]);
    let receipts = node.receipts();
    let via = Via { gateway: node.agent.me(), device: DEVICE.to_owned() };
    assert_eq!(receipts.len(), 1);
    assert_eq!((receipts[0].device, receipts[0].via.as_ref()), (via.name(), Some(&via)));
    assert_eq!((receipts[0].version.as_str(), receipts[0].seq), ("2.0", 2));

    // The same again is known, and so needs no write; a new outcome is none of that.
    assert_eq!(node.report(DEVICE, ended("2.0", Outcome::Active)), [vec![Ok(())], vec![]]);
    assert_eq!(node.report(DEVICE, ended("2.0", failed("\u{1b}[31mx"))), [vec![], vec![Ok(())]]);
    assert_eq!(node.report(DEVICE, ended("2.0", failed("y"))), [vec![Ok(())], vec![]]);
    // What no release has says nothing about one.
    assert_eq!(node.report(DEVICE, ended("9.9", Outcome::Active)), [vec![Ok(())], vec![]]);
    assert_eq!(node.receipts().len(), 2);

    // After a crash numbers still only go up.
    let highest = node.receipts().iter().map(|receipt| receipt.counter).max().unwrap();
    let mut node = Node::restarted(&shop, node.disk);
    node.report(DEVICE, ended("1.0", Outcome::Active));
    assert_eq!(node.receipts().len(), 3);
    assert!(node.receipts().iter().all(|receipt| receipt.counter <= highest || receipt.version == "1.0"));
    assert!(node.receipts().last().unwrap().counter > highest);
}

#[test]
fn nobody_speaks_for_a_node_or_for_the_devices_of_another_gateway() {
    // §9.7
    let mut node = Node::new(&shop(Rules::default()));
    node.report(DEVICE, ended("2.0", Outcome::Active));
    let honest = node.receipts().remove(0);
    let mallory = SigningKey::from_bytes(&[66; 32]);
    let other = NodeId(mallory.verifying_key().to_bytes());
    let via = Via { gateway: other, device: DEVICE.to_owned() };
    let victim = NodeId(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
    for receipt in [
        // A node's own name, and the name of a device behind another gateway.
        Receipt { device: victim, via: Some(via.clone()), ..honest.clone() },
        Receipt { via: Some(via.clone()), ..honest.clone() },
    ] {
        assert_eq!(SignedReceipt::sign(&receipt, &mallory).verify(), Err(ReceiptError::Malformed));
    }
    // Signed by whom it does not name.
    let named = Receipt { device: via.name(), via: Some(via), ..honest.clone() };
    let good = SignedReceipt::sign(&named, &mallory);
    assert_eq!(good.verify().as_ref(), Ok(&named));
    let stolen = SignedReceipt::of(postcard::to_stdvec(&honest).unwrap(), good.signature());
    assert_eq!(stolen.verify(), Err(ReceiptError::Signature));
}

#[test]
fn a_chosen_channel_survives_a_restart_and_can_be_given_up() {
    // §15.3, §10.2
    let shop = shop(Rules::default());
    let mut node = Node::new(&shop);
    assert_eq!(node.report(DEVICE, Told::Channel(Some("beta".to_owned()))), [vec![], vec![Ok(())]]);
    assert_eq!(node.report(DEVICE, Told::Channel(Some("beta".to_owned()))), [vec![Ok(())], vec![]]);
    assert_eq!(node.agent.assigned().of("shop", DEVICE), Some("beta"));
    let mut node = Node::restarted(&shop, node.disk);
    assert_eq!(node.agent.assigned().of("shop", DEVICE), Some("beta"));
    assert_eq!(node.report(DEVICE, Told::Channel(None)), [vec![], vec![Ok(())]]);
    assert_eq!(node.agent.assigned().iter().count(), 0);
}

#[test]
fn reports_that_can_not_be_kept_are_declined() {
    let shop = shop(Rules::default());
    let mut node = Node::new(&shop);
    let beta = || Told::Channel(Some("beta".to_owned()));
    for bad in ["", "a/b", "é", &"x".repeat(65), "a\0"] {
        assert_eq!(node.report(bad, beta()), [vec![Err(Declined::BadDevice)], vec![]], "{bad:?}");
    }
    let unknown = Told::Channel(Some("nightly".to_owned()));
    assert_eq!(node.report(DEVICE, unknown), [vec![Err(Declined::UnknownChannel)], vec![]]);
    let report = Report { app: "bank".to_owned(), device: DEVICE.to_owned(), what: beta() };
    let actions = node.handle(Input::Reported { ticket: Ticket(7), report });
    assert_eq!(answers(&actions), [Err(Declined::UnknownApp)]);

    // While the disk is behind, only so much waits for it.
    let mut declined = 0;
    for number in 0..100 {
        let report = Report { app: "shop".to_owned(), device: format!("device-{number}"), what: beta() };
        let actions = node.handle(Input::Reported { ticket: Ticket(7), report });
        declined += usize::from(answers(&actions) == [Err(Declined::Busy)]);
    }
    assert_eq!(declined, 36);
    // A write that fails is no answer that it was written.
    let (token, _) = node.pending.remove(0);
    let actions = node.handle(Input::StoreFailed { token, why: "full".to_owned() });
    assert_eq!(answers(&actions), [Err(Declined::Storage)]);
    assert_eq!(node.agent.assigned().of("shop", "device-0"), None);
    node.write();
    assert_eq!(node.agent.assigned().iter().count(), 63);
}
