//! Budgets, looked at from outside: what a node asks for and gives, less what the network then did not move of it, against
//! the node's settings.
//!
//! A rate is a bucket that leaks at it, and holds what went ahead: a request may begin while no more is in it than may
//! gather (`protocol/README.md` §7.12). A month's cap is one sum: the cap, as often as a month began on the node's clocks.

use burr_protocol::{
    Time,
    budget::{Direction, Month, Rate, on_wire},
    fetch::{Request, piece_size},
};

use super::{NodeIndex, Rule, World};

/// Milliseconds of a rate that gather while nothing goes, and that a request lasts at it.
const GATHERS: u64 = 50;
const REQUEST: u64 = 250;

/// What one node used of its budgets, in bytes on the wire.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// Near and far, each down and up.
    buckets: [[Bucket; 2]; 2],
    /// To and from other sites, in all months.
    far: u64,
    /// Months that began, and the one that its clocks showed last.
    months: u64,
    month: u32,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Thousandths of bytes: what a byte a second leaks in a millisecond.
    ahead: u128,
    at: Time,
    /// Bytes of the moment `at`.
    at_once: u64,
}

impl Bucket {
    /// Puts bytes in; whether they might go. `piece` is the least that is asked for.
    fn spend(&mut self, rate: u64, bytes: u64, piece: u64, now: Time) -> bool {
        if now > self.at {
            let leaked = u128::from(rate) * u128::from(now.0 - self.at.0);
            *self = Self { ahead: self.ahead.saturating_sub(leaked), at: now, at_once: 0 };
        }
        let (before, began) = (self.ahead, self.ahead.saturating_sub(u128::from(self.at_once) * 1000));
        self.ahead += u128::from(bytes) * 1000;
        self.at_once += bytes;
        let gathered = u128::from(rate * GATHERS);
        // What goes at once may be one request of several runs.
        let longest = on_wire((rate * REQUEST / 1000).max(piece));
        rate > 0 && (before <= gathered || began <= gathered && self.at_once <= longest)
    }

    fn unspend(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_sub(u128::from(bytes) * 1000);
        self.at_once = self.at_once.saturating_sub(bytes);
    }
}

impl World {
    /// Whether two nodes are of one site, as their budgets see it.
    pub(in crate::world) fn is_one_site(&self, a: NodeIndex, b: NodeIndex, near: bool) -> bool {
        let site = |node: NodeIndex| self.machines[node].config.site.as_ref();
        site(a).zip(site(b)).map_or(near, |(a, b)| a == b)
    }

    /// A node asks for bytes, or gives them.
    pub(in crate::world) fn check_spends(
        &mut self,
        node: NodeIndex,
        near: bool,
        direction: Direction,
        request: &Request,
    ) {
        self.check_month(node);
        let (time, config) = (self.time, self.machines[node].config.clone());
        let Some(checks) = &mut self.checks else { return };
        let spent = checks.spent.entry(node).or_default();
        let bytes = on_wire(request.end - request.start);
        let budgets = &config.budgets;
        let limits = match (near, budgets.is_metered) {
            (true, _) => &budgets.lan,
            (false, false) => &budgets.wan,
            (false, true) => &budgets.metered,
        };
        let schedule = if direction == Direction::Down { &limits.down } else { &limits.up };
        let bucket = &mut spent.buckets[usize::from(!near)][direction as usize];
        let piece = piece_size(request.size).min(request.size);
        let is_kept = match schedule.highest() {
            Rate(None) => true,
            Rate(Some(rate)) => bucket.spend(rate, bytes, piece, time),
        };
        let ahead = bucket.ahead / 1000;
        spent.far += if near { 0 } else { bytes };
        let (far, months) = (spent.far, spent.months);
        if !is_kept {
            let words = format!("{ahead} bytes {direction} are ahead of the rate of {schedule}");
            self.broke(node, Rule::OverBudget, words);
        }
        if let Some(cap) = budgets.month.filter(|cap| far > cap.saturating_mul(months)) {
            self.broke(node, Rule::OverBudget, format!("{far} bytes in {months} months of {cap} each"));
        }
    }

    /// Some of what it asked for, or gave, did not go.
    pub(in crate::world) fn check_unspends(&mut self, node: NodeIndex, near: bool, direction: Direction, bytes: u64) {
        let Some(spent) = self.checks.as_mut().and_then(|checks| checks.spent.get_mut(&node)) else { return };
        let bytes = on_wire(bytes);
        spent.buckets[usize::from(!near)][direction as usize].unspend(bytes);
        spent.far = spent.far.saturating_sub(if near { 0 } else { bytes });
    }

    /// A node's clocks may show another month, and do at its start. No clock undercuts the time that publishers sign, which is
    /// right here.
    pub(in crate::world) fn check_month(&mut self, node: NodeIndex) {
        if self.checks.is_none() {
            return;
        }
        let shown = self.shown(node).wall.max(self.now().wall);
        let month = shown.map_or(0, |wall| Month::of(wall).number);
        if let Some(checks) = &mut self.checks {
            let spent = checks.spent.entry(node).or_default();
            spent.months += u64::from(month > spent.month);
            spent.month = month;
        }
    }

    /// A node owes nothing for what it asked for before it was switched off; what it used of the month it knows from its
    /// records, if it has them.
    pub(in crate::world) fn check_owes_nothing(&mut self, node: NodeIndex, has_records: bool) {
        if let Some(checks) = &mut self.checks {
            let spent = checks.spent.entry(node).or_default();
            spent.buckets = Default::default();
            spent.months += u64::from(!has_records);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use burr_protocol::{
        action::Input,
        budget::Budgets,
        config::{Config, Install},
    };

    use super::*;
    use crate::{Publisher, story::EPOCH};

    /// A device with these budgets fetches 8 MiB from another site in ten minutes, and goes by them, or by none.
    fn broken(settings: &[(&str, &str)], goes_by_them: bool) -> Vec<Rule> {
        let mut shop = Publisher::new("shop", "budgets", EPOCH);
        let mut world = World::new(EPOCH);
        world.watch_rules();
        let source = world.add(Config { follows: vec![shop.cached()], ..Config::default() });
        let mut config = Config { follows: vec![shop.installed(Install::of("stable"))], ..Config::default() };
        for (name, text) in settings {
            config.set(name, text).expect("a setting");
        }
        let device = world.add(config.clone());
        if !goes_by_them {
            let without = Config { budgets: Budgets::default(), ..config };
            world.give(device, Input::Settings(Box::new(without)));
        }
        let release = shop.release("1.0.0", 8 << 20, EPOCH);
        world.released(&release);
        world.import(source, shop.id(), Some((release.payload.blob, release.payload.size)), shop.pack());
        for _ in 0..6 {
            world.link(source, device, Duration::from_millis(10), 1 << 20);
            world.run(Duration::from_secs(2));
            world.cut(source, device);
            world.run(Duration::from_secs(2));
        }
        world.link(source, device, Duration::from_millis(10), 1 << 20);
        world.run(Duration::from_secs(600));
        assert!(world.received(device) > 1 << 20, "it fetches something");
        world.violations().iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_node_that_does_not_go_by_its_budgets_is_found_out() {
        for settings in [[("budget.wan_down", "100 kB/s")], [("budget.month", "4 MiB")]] {
            assert_eq!(broken(&settings, true), [], "{settings:?}");
            let rules = broken(&settings, false);
            assert!(rules.len() > 1 && rules.iter().all(|rule| *rule == Rule::OverBudget), "{settings:?}: {rules:?}");
        }
    }
}
