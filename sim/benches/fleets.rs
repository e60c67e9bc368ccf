//! What a simulation costs: events and scenarios in time, agents in bytes. `cargo bench -p burr-sim [-- NAME]`.

use std::collections::BTreeMap;

use burr_protocol::{
    Agent, Now,
    action::Input,
    config::{Config, Install},
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
    let mut first = fleet(scenario);
    first.run(|_| ());
    let events = first.world.handled();
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

#[divan::bench(
    args = ["flash_crowd", "lan_cache", "kiosk_courier", "partition", "hostile_peers", "field_fleet"],
    sample_count = 1,
    sample_size = 1
)]
fn scenario(bencher: Bencher<'_, '_>, name: &str) {
    run(bencher, &shipped(name, &[]));
}

/// One device's agent at rest, with the metadata of one release: what is allocated and not freed again, less the 16 actions
/// and what all agents share, is what it takes.
#[divan::bench]
fn idle_agent(bencher: Bencher<'_, '_>) {
    let mut shop = Publisher::new("shop", "bench", EPOCH);
    let config: std::sync::Arc<Config> =
        Config { follows: vec![shop.installed(Install::of("stable"))], ..Config::default() }.into();
    shop.release("1.0.0", 1 << 20, EPOCH);
    let pack = shop.pack();
    let mut memory = burr_protocol::trust::Memory::of(16);
    let now = Now { wall: Some(EPOCH), ..Now::default() };
    bencher
        .with_inputs(|| (SigningKey::from_bytes(&[7; 32]), config.clone(), pack.clone(), Vec::with_capacity(16)))
        .bench_local_values(|(key, config, pack, mut actions)| {
            let (mut agent, _) = Agent::new(key, config, Vec::new(), BTreeMap::new(), now);
            let input = Input::Import { repository: shop.id(), pack };
            agent.handle_with(&mut memory, now, input, &mut actions);
            actions.clear();
            Box::new(agent)
        });
}
