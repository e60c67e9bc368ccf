//! What a simulation costs: events and scenarios in time, agents in bytes. `cargo bench -p burr-sim [-- NAME]`.

use std::collections::BTreeMap;

use burr_protocol::{
    Agent, Now, Shared,
    action::Input,
    cache::Stored,
    config::{Config, Install},
    record::{AppRecord, Installed, Record, ReleaseId},
    trust::Memory,
};
use burr_sim::{
    Publisher,
    fleet::Fleet,
    scenario::{SHIPPED, Scenario},
    story::EPOCH,
};
use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use ed25519_dalek::SigningKey;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn shipped(name: &str, changes: &[(&str, String)]) -> Scenario {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("a built-in scenario").1;
    let changes: Vec<_> = changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Scenario::read_with(text, &changes).expect("a built-in scenario is right")
}

fn fleet(scenario: &Scenario) -> Fleet {
    Fleet::new(scenario, scenario.seed, Vec::new()).expect("a built-in scenario is right")
}

/// Runs a fleet; what is counted are the inputs that its agents handled.
fn run(bencher: Bencher<'_, '_>, scenario: &Scenario) {
    let events = {
        let mut first = fleet(scenario);
        first.run(|_| ());
        first.world.handled()
    };
    bencher.counter(ItemsCount::new(events)).with_inputs(|| fleet(scenario)).bench_local_values(|mut fleet| {
        fleet.run(|_| ());
        fleet
    });
}

/// `scale_1m` with fewer depots: events a second of devices that are idle most of the time.
#[divan::bench(args = [10, 100], sample_count = 1, sample_size = 1)]
fn events_of_so_many_thousand_devices(bencher: Bencher<'_, '_>, thousands: u32) {
    run(bencher, &shipped("scale_1m", &[("sites.2.count", thousands.to_string())]));
}

/// `scale_1m` as it is, twice: once to count. It takes minutes and gigabytes, so it runs with `--include-ignored` alone.
#[divan::bench(ignore, sample_count = 1, sample_size = 1)]
fn events_of_a_million_devices(bencher: Bencher<'_, '_>) {
    run(bencher, &shipped("scale_1m", &[]));
}

#[divan::bench(
    args = ["flash_crowd", "lan_cache", "kiosk_courier", "partition", "hostile_peers", "field_fleet"],
    sample_count = 1,
    sample_size = 1
)]
fn scenario(bencher: Bencher<'_, '_>, name: &str) {
    run(bencher, &shipped(name, &[]));
}

/// One device's agent at rest, up to date with the one release that there is, whose payload it keeps: what is allocated and
/// not freed again (`alloc` and `grow` less `dealloc` and `shrink`) is what it takes, but for what all agents share.
#[divan::bench]
fn idle_agent(bencher: Bencher<'_, '_>) {
    let mut shop = Publisher::new("shop", "bench", EPOCH);
    let follow = shop.installed(Install::of("stable"));
    let config: std::sync::Arc<Config> = Config { follows: vec![follow], ..Config::default() }.into();
    let release = shop.release("1.0.0", 1 << 20, EPOCH);
    let installed = Installed {
        id: ReleaseId::of(shop.id(), &release),
        version: release.version.clone(),
        bundle: release.bundle,
        bytes: release.unpacked,
    };
    let active = Some(Shared::from(installed));
    let state = AppRecord { active: active.clone(), factory: active, counter: 1, ..AppRecord::default() };
    let records =
        [Record::Metadata { repository: shop.id(), pack: shop.pack() }, Record::App { app: "shop".to_owned(), state }];
    let store = BTreeMap::from([(release.payload.blob, Stored { size: release.payload.size, whole: true })]);
    let mut memory = Memory::of(16);
    let now = Now { wall: Some(EPOCH), ..Now::default() };
    let switched = Input::Switched { app: "shop".to_owned(), bundle: Some(release.bundle), result: Ok(()) };
    bencher.bench_local(|| {
        let key = SigningKey::from_bytes(&[7; 32]);
        let (mut agent, _) = Agent::new_with(&mut memory, key, config.clone(), records.to_vec(), store.clone(), now);
        let mut actions = Vec::new();
        agent.handle_with(&mut memory, now, Input::Network { up: false }, &mut actions);
        agent.handle_with(&mut memory, now, switched.clone(), &mut actions);
        Box::new(agent)
    });
}
