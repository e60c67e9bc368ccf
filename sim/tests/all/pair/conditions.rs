//! What a device's settings ask of its condition, before it fetches and before it switches.

use burr_protocol::{
    action::Input,
    config::Install,
    fact::{Fact, UpdateStep},
    policy::{Conditions, Power},
    rules::{Rules, Urgency},
};

use super::{MIB, Pair, stable};

impl Pair {
    fn is(&mut self, conditions: Conditions) {
        self.world.give(self.device, Input::Conditions(conditions));
        self.run(10);
    }

    fn waits_for_words(&self) -> String {
        let status = self.world.agent(self.device).expect("the device is on").status();
        status.apps[0].why.clone().unwrap_or_default()
    }

    fn fetches(&self) -> usize {
        self.told(self.device, |fact| matches!(fact, Fact::FetchStarted { .. }))
    }
}

fn needing(download: &str, activate: &str) -> Install {
    let needs = |text: &str| text.parse().expect("conditions");
    Install { download: needs(download), activate: needs(activate), ..stable() }
}

#[test]
fn a_device_fetches_on_a_link_that_is_free_and_switches_with_power() {
    // §8.12
    let mut pair = Pair::new(needing("unmetered", "battery>=40 idle"));
    let metered = Conditions { metered: Some(true), battery: Some(20), idle: false, ..Conditions::default() };
    pair.is(metered);
    pair.publish("1.0.0", MIB);
    pair.run(600);
    assert_eq!((pair.fetches(), pair.active()), (0, None));
    assert_eq!(pair.waits_for_words(), "1.0.0 is not fetched yet; it waits for a link that is not metered");
    pair.is(Conditions { metered: Some(false), ..metered });
    assert_eq!((pair.fetches(), pair.active()), (1, None));
    let words = "1.0.0 is staged; it waits for a battery at 40 % (it is at 20 %) and a moment when this device is idle";
    assert_eq!(pair.waits_for_words(), words);
    pair.is(Conditions { battery: Some(50), ..metered });
    assert_eq!(pair.active(), None);
    // On the mains the battery does not matter.
    pair.is(Conditions { battery: Some(5), power: Some(Power::Mains), idle: true, ..metered });
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn a_fetch_pauses_while_the_link_is_metered_and_goes_on_where_it_was() {
    let mut pair = Pair::new(needing("unmetered", ""));
    pair.is(Conditions { metered: Some(false), ..Conditions::default() });
    pair.publish("1.0.0", 60 * MIB);
    pair.run(30);
    let before = pair.world.received(pair.device);
    assert!(before > 20 * MIB, "{before}");
    pair.is(Conditions { metered: Some(true), ..Conditions::default() });
    let stopped = pair.world.received(pair.device);
    pair.run(600);
    assert_eq!(pair.world.received(pair.device), stopped);
    pair.is(Conditions { metered: Some(false), ..Conditions::default() });
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert!(pair.world.received(pair.device) < 70 * MIB, "{}", pair.world.received(pair.device));
}

#[test]
fn what_the_owner_asks_holds_for_critical_releases_and_ends_with_a_word_at_the_device() {
    let mut pair = Pair::new(needing("", "mains"));
    let now = pair.world.now().wall.expect("the world has a clock");
    let rules = Rules { urgency: Urgency::Critical, ..Rules::default() };
    let release = pair.shop.release_by(rules, "1.0.0", MIB, now);
    pair.import(&release);
    pair.run(600);
    let staged = |fact: &Fact| matches!(fact, Fact::Update { step: UpdateStep::Staged, .. });
    assert_eq!((pair.told(pair.device, staged), pair.active()), (1, None));
    pair.world.give(pair.device, Input::Apply { app: "shop".to_owned() });
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}
