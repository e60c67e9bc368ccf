//! What may cross an uplink: rates, hours, metered links and bytes a month are kept to the byte. The two nodes share no
//! site, so what goes between them counts as going to and from another.

use burr_protocol::{
    action::Input,
    budget::{Budgets, Direction, Held, on_wire},
    config::Config,
    fact::Fact,
    status::Limit,
};
use burr_sim::{Clock, NodeIndex, story::EPOCH};

use super::{MIB, Pair, stable};

const PIECE: u64 = 64 << 10;

fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, text) in settings {
        config.set(name, text).expect("a setting");
    }
    config.check().expect("within its bounds");
    config
}

fn device_with(settings: &[(&str, &str)]) -> Pair {
    let mut pair = Pair::with(stable(), &config(settings));
    pair.meet();
    pair
}

/// A node has other budgets from now on.
fn set(pair: &mut Pair, node: NodeIndex, settings: &[(&str, &str)]) {
    let budgets: Budgets = config(settings).budgets;
    let before = pair.world.agent(node).expect("it is on").config().clone();
    pair.world.give(node, Input::Settings(Box::new(Config { budgets, ..before })));
}

/// What went to the device in some seconds, on the wire.
fn wire_bytes_in(pair: &mut Pair, seconds: u64) -> u64 {
    let before = pair.world.received(pair.device);
    pair.run(seconds);
    on_wire(pair.world.received(pair.device) - before)
}

/// A request under way at either end of the time is all that may be amiss.
#[track_caller]
fn assert_rate(bytes: u64, seconds: u64, rate: u64, request: u64) {
    let due = seconds * rate;
    assert!(bytes.abs_diff(due) <= on_wire(request), "{bytes} bytes, {due} are due");
}

fn limit(pair: &Pair, node: NodeIndex, direction: Direction) -> Limit {
    let budget = pair.world.agent(node).expect("it is on").status().budget;
    budget
        .limits
        .into_iter()
        .find(|limit| limit.link.to_string() != "lan" && limit.direction == direction)
        .expect("one")
}

#[test]
fn a_rate_is_kept_whoever_sets_it_and_changes_at_once() {
    // §7.12
    let mut pair = device_with(&[("budget.wan_down", "100 kB/s")]);
    pair.publish("1.0.0", 64 * MIB);
    pair.run(2);
    assert_rate(wire_bytes_in(&mut pair, 100), 100, 100_000, PIECE);
    let waits = limit(&pair, pair.device, Direction::Down).waits.expect("it waits between two pieces");
    assert_eq!(waits, "what is fetched waits: budget.wan_down permits 100 kB/s now");
    // From now on the device takes what comes, and the source gives less.
    let (device, source) = (pair.device, pair.source);
    set(&mut pair, device, &[]);
    set(&mut pair, source, &[("budget.wan_up", "300 kB/s")]);
    pair.run(2);
    assert_rate(wire_bytes_in(&mut pair, 60), 60, 300_000, 4 * PIECE);
    set(&mut pair, source, &[("budget.wan_up", "none")]);
    pair.run(6);
    assert_eq!(wire_bytes_in(&mut pair, 60), 0);
    set(&mut pair, source, &[("budget.lan_up", "none")]);
    pair.run(120);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn hours_are_kept_by_local_time_to_the_minute() {
    // §7.12
    let minute = EPOCH.0 / 60 % (24 * 60);
    let clock = |minutes: i64| format!("{:02}:{:02}", (minute + minutes) / 60 % 24, (minute + minutes) % 60);
    let mut pair = device_with(&[("budget.wan_down", &format!("none; {}-{} 50 kB/s", clock(10), clock(12)))]);
    pair.publish("1.0.0", 64 * MIB);
    pair.world.run(std::time::Duration::from_secs(u64::try_from(60 - EPOCH.0 % 60).unwrap() + 9 * 60 - 1));
    assert_eq!(pair.world.received(pair.device), 0);
    let waits = limit(&pair, pair.device, Direction::Down).waits.expect("it waits for its hour");
    assert_eq!(waits, "what is fetched waits: budget.wan_down permits nothing now");
    pair.run(1);
    assert_rate(wire_bytes_in(&mut pair, 120), 120, 50_000, PIECE);
    pair.run(1);
    assert_eq!(wire_bytes_in(&mut pair, 3600), 0);
}

#[test]
fn a_month_has_its_bytes_and_no_kill_makes_them_more() {
    // §7.13
    let cap = 8 * MIB;
    let mut pair = device_with(&[("budget.month", "8 MiB")]);
    let first = pair.publish("1.0.0", 2 * MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.publish("2.0.0", 64 * MIB);
    for _ in 0..4 {
        pair.world.run(std::time::Duration::from_millis(700));
        pair.restart(pair.device);
    }
    pair.run(3600);
    let told = |pair: &Pair| pair.told(pair.device, |fact| matches!(fact, Fact::BudgetUsedUp { .. }));
    let before = told(&pair);
    pair.run(3600);
    assert!(before > 0 && told(&pair) == before, "it is told once a start");
    let used = on_wire(pair.world.received(pair.device));
    // Each kill costs a lease at most; the last piece must fit whole.
    assert!(used <= cap && used + 5 * MIB + on_wire(PIECE) > cap, "{used}");
    let status = pair.world.agent(pair.device).expect("it is on").status().budget;
    assert_eq!(status.cap, Some(cap));
    let waits = limit(&pair, pair.device, Direction::Down).waits.expect("it waits for the next month");
    assert!(waits.starts_with("what is fetched waits: the month's budget is used up; it goes on in "), "{waits}");
    assert!(pair.world.received(pair.device) > first.payload.size);
    let handled = pair.world.handled();
    let month = 31 * 24 * 3600;
    pair.run(month);
    assert!(on_wire(pair.world.received(pair.device)) > cap, "the next month has bytes of its own");
    assert!(pair.world.handled() - handled < 100_000, "who waits for a month sleeps");
}

#[test]
fn what_a_provider_takes_away_with_it_is_not_used_of_the_month() {
    // §7.12, §7.13
    let mut pair = device_with(&[("budget.month", "1 GiB")]);
    pair.publish("1.0.0", 64 * MIB);
    for _ in 0..12 {
        pair.run(5);
        pair.part();
        pair.run(1);
        pair.meet();
    }
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let used = pair.world.agent(pair.device).expect("it is on").status().budget.used;
    let came = on_wire(pair.world.received(pair.device));
    // A rounding each time.
    assert!(used.abs_diff(came) < 1000, "{used} bytes of the month are used for {came} that came");
}

#[test]
fn who_asks_again_and_again_from_afar_does_not_use_up_what_a_device_needs_itself() {
    // §7.13
    let (cap, size) = (16 * MIB, 3 * MIB);
    let mut pair = device_with(&[("budget.month", "16 MiB")]);
    pair.publish("1.0.0", size);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.part();
    let mut waits = None;
    for _ in 0..6 {
        let stranger = pair.add_cache();
        pair.link(stranger, pair.device);
        for _ in 0..30 {
            pair.run(1);
            waits = limit(&pair, pair.device, Direction::Up).waits.or(waits);
        }
        pair.world.cut(stranger, pair.device);
    }
    let given = on_wire(pair.world.served(pair.device));
    assert!(given > 2 * size && on_wire(size) + given <= cap / 4 * 3, "{given}");
    let waits = waits.expect("others wait for the next month");
    assert!(waits.contains("the rest of the month's budget is for what this node fetches"), "{waits}");
    pair.meet();
    pair.publish("2.0.0", size);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
}

#[test]
fn what_a_driver_moves_itself_is_taken_before_it_goes() {
    // §7.12, §7.13
    let (near, far, cap) = (true, false, 8 * MIB);
    let mut pair = device_with(&[("budget.month", "8 MiB"), ("budget.lan_up", "100 kB/s")]);
    pair.run(1);
    let ask = |pair: &Pair, near, direction, least, most| {
        let now = pair.world.now().time;
        pair.world.agent(pair.device).expect("it is on").may_carry(near, direction, least, most, now)
    };
    let carry = |pair: &mut Pair, near, direction, bytes| {
        pair.world.give(pair.device, Input::Carried { near, direction, bytes });
    };
    let mut went = 0;
    let held = loop {
        match ask(&pair, far, Direction::Down, PIECE, MIB) {
            Ok(bytes) => {
                assert!((PIECE..=MIB).contains(&bytes), "{bytes}");
                carry(&mut pair, far, Direction::Down, bytes);
                went += on_wire(bytes);
            }
            // More of the month is being written down.
            Err(Held::Soon(_)) => pair.world.run(std::time::Duration::from_millis(10)),
            Err(held) => break held,
        }
        assert!(went <= cap, "{went}");
    };
    assert!(matches!(&held, Held::Shut(why) if why.contains("the month's budget is used up")), "{held:?}");
    assert!(went + on_wire(PIECE) > cap, "{went}");
    assert_eq!(ask(&pair, far, Direction::Up, PIECE, PIECE), Err(held), "both ways together");
    // A few bytes may still go; what did not go may go again.
    assert!(ask(&pair, far, Direction::Down, 1, 1).is_ok());
    pair.world.give(pair.device, Input::NotCarried { near: far, direction: Direction::Down, bytes: PIECE });
    assert_eq!(ask(&pair, far, Direction::Down, PIECE, PIECE), Ok(PIECE));

    // A rate: as much as a quarter of a second has room for, and then not before that is over.
    assert_eq!(ask(&pair, near, Direction::Up, 1000, MIB), Ok(25_000));
    carry(&mut pair, near, Direction::Up, 25_000);
    assert!(
        matches!(ask(&pair, near, Direction::Up, 1000, MIB), Err(Held::Soon(why)) if why.contains("budget.lan_up"))
    );
    pair.world.run(std::time::Duration::from_millis(300));
    assert_eq!(ask(&pair, near, Direction::Up, 1000, MIB), Ok(25_000));
}

#[test]
fn a_clock_that_was_years_ahead_does_not_end_the_months() {
    // §7.13
    let cap = 8 * MIB;
    let mut pair = device_with(&[("budget.month", "8 MiB")]);
    let device = pair.device;
    pair.publish("1.0.0", 2 * MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.world.set_clock(device, Clock::Off(5 * 365 * 24 * 3600));
    pair.run(3600);
    pair.world.set_clock(device, Clock::Right);
    let before = pair.world.received(device);
    pair.publish("2.0.0", 64 * MIB);
    pair.run(7200);
    let used = |pair: &Pair| on_wire(pair.world.received(device) - before);
    assert!(used(&pair) <= cap && used(&pair) > cap / 2, "{}", used(&pair));
    pair.run(31 * 24 * 3600);
    assert!(used(&pair) > cap, "the next month has bytes of its own");
}

#[test]
fn on_a_metered_link_nothing_is_given_unless_it_is_said() {
    // §7.12
    let mut pair = device_with(&[]);
    let source = pair.source;
    set(&mut pair, source, &[("budget.metered", "true")]);
    pair.publish("1.0.0", MIB);
    pair.run(60);
    assert_eq!(pair.world.served(source), 0);
    let waits = limit(&pair, source, Direction::Up);
    assert_eq!((waits.link.to_string().as_str(), waits.rate.as_str()), ("metered", "none"));
    set(&mut pair, source, &[("budget.metered", "true"), ("budget.metered_up", "1 MB/s")]);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}
