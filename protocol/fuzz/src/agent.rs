//! A whole agent as a state machine: real and altered messages, packs, announcements and receipts of any peer, answers
//! of the disk and the network in any order, kills at any moment; then an honest peer, by which it must heal.
//!
//! What must hold whatever comes stands in `agent/rules.rs`; the machine around the agent is `agent/world.rs`, with the
//! door of a closed mesh in `agent/door.rs`.

mod door;
mod rules;
mod world;

use std::time::Duration;

use burr_protocol::{
    Hash, NodeId, RepositoryId, Time, Wall,
    action::{FetchFailure, GossipId, Input, StageFailure},
    catalog,
    config::Confirm,
    fetch::PieceMap,
    peers::Address,
    trust::write::Repository,
    wire::{Announcement, Digest, Message, Room},
};

use super::{
    program::Program,
    records::receipt,
    shop::{self, NOW, history},
};
use world::{Duty, World};

/// Peers that say anything; the last one is honest and comes when all is over.
pub(crate) const PEERS: u8 = 4;

pub(crate) fn peer(number: u8) -> NodeId {
    shop::node(111 + number)
}

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    let limit = Duration::from_secs(60);
    let confirm = [Confirm::Immediately, Confirm::Command(limit), Confirm::Call(limit)][program.below(3)];
    let mut world = World::new(confirm, program.flag());
    for _ in 0..200 {
        if program.is_over() {
            break;
        }
        step(&mut world, &mut program);
    }
    world.heal(peer(PEERS));
}

fn step(world: &mut World, program: &mut Program<'_>) {
    let kind = program.below(16);
    let node = peer(u8::try_from(program.below(PEERS.into())).expect("few peers"));
    match kind {
        0 => world.connect(node),
        1 => world.disconnect(node),
        2 => world.message(node, &honest(program)),
        3 => {
            let pack = history()[program.below(history().len())].pack().to_vec();
            world.message(node, &Message::Pack { repository: shop::id(), bytes: pack });
        }
        4 => {
            let mut bytes = honest(program).encode();
            if program.flag() {
                let repository = &history()[program.below(history().len())];
                bytes = Message::Pack { repository: shop::id(), bytes: repository.pack().to_vec() }.encode();
            }
            program.alter(&mut bytes);
            world.lie(node, Input::Message { node, bytes });
        }
        5 => world.lie(node, Input::Message { node, bytes: program.take().to_vec() }),
        6 => {
            let bytes = announcement(&history()[program.below(history().len())]).encode();
            world.handle(Input::Announcement { node, id: GossipId(program.byte().into()), bytes });
        }
        7 => {
            let mut bytes = announcement(&history()[program.below(history().len())]).encode();
            program.alter(&mut bytes);
            world.lie(node, Input::Announcement { node, id: GossipId(0), bytes });
        }
        8 => claim_falsely(world, node, program),
        9 | 10 => answer(world, program),
        11 => world.pass(Duration::from_millis(u64::from(program.short()) << program.below(16))),
        12 => world.wake(),
        13 => {
            let pack = history()[program.below(history().len())].pack().to_vec();
            world.handle(Input::Import { repository: shop::id(), pack });
        }
        14 => world.restart(program.below(4)),
        _ => match program.below(6) {
            4 => world.knock(node, program),
            5 => world.handle(Input::Check),
            0 => world.set_clock(None),
            1 => world.set_clock(Some(Wall(NOW.0 + (i64::from(program.short()) - 2000) * 24 * 60 * 60))),
            2 => world.handle(Input::Confirm { app: "shop".to_owned() }),
            _ => {
                let (address, known) = (Address(program.byte().to_string()), program.flag().then_some(node));
                world.handle(Input::Found { address, node: known, fixed: program.flag() });
            }
        },
    }
}

/// What a peer may say without being wrong.
fn honest(program: &mut Program<'_>) -> Message {
    let repository = &history()[program.below(history().len())];
    match program.below(6) {
        0 | 1 => Message::Digest(digest(repository)),
        2 => {
            let pack = repository.verified().pack_hash();
            Message::AskPack { repository: shop::id(), pack }
        }
        3 => {
            let payload = shop::release("stable", 1 + program.below(5) as u64).payload;
            let pieces = if program.flag() { PieceMap::All } else { PieceMap::Some(program.take().to_vec()) };
            if matches!(&pieces, PieceMap::Some(bits) if bits.len() > burr_protocol::wire::MAX_MAP) {
                return Message::Unwant(vec![payload.blob]);
            }
            Message::Holds { blob: payload.blob, size: payload.size, pieces }
        }
        4 => {
            let (device, counter) = (program.byte() % 8, 1 + u64::from(program.byte()));
            Message::Receipts(vec![receipt(device + 1, counter).1, receipt(device + 1, counter + 1).1])
        }
        _ => {
            let blob = shop::release("stable", 1 + program.below(5) as u64).payload.blob;
            Message::Want { blobs: vec![blob], outward: false }
        }
    }
}

fn digest(repository: &Repository) -> Digest {
    Digest {
        collects: true,
        site: None,
        follows: vec![shop::id()],
        holdings: vec![catalog::holding(repository.verified())],
        marks: Vec::new(),
        more: None,
        room: Room::All,
    }
}

fn announcement(repository: &Repository) -> Announcement {
    let verified = repository.verified();
    Announcement {
        repository: shop::id(),
        timestamp: verified.timestamp().to_vec(),
        pack: verified.pack_hash(),
        root: verified.root_version(),
    }
}

/// Claims that nobody can prove to be false at once, so that they cost no peer its place.
fn claim_falsely(world: &mut World, node: NodeId, program: &mut Program<'_>) {
    let mut digest = digest(&history()[program.below(history().len())]);
    let holding = &mut digest.holdings[0];
    match program.below(4) {
        0 => holding.version.timestamp = u64::MAX,
        1 => holding.version.root = u64::from(program.short()),
        2 => holding.pack = Hash([program.byte(); 32]),
        _ => digest.follows.push(RepositoryId([program.byte(); 32])),
    }
    world.message(node, &Message::Digest(digest));
}

/// Answers one of the duties that are under way, well or badly.
fn answer(world: &mut World, program: &mut Program<'_>) {
    let at = program.byte();
    let Some(duty) = world.take_duty(at.into()) else { return };
    let well = program.below(4) != 0;
    let words = || "bad luck".to_owned();
    match duty {
        Duty::Fetch(request) if !well => {
            let whys = [FetchFailure::NotFound, FetchFailure::Lost, FetchFailure::TimedOut, FetchFailure::Corrupt];
            let why = whys[program.below(4)];
            let input = Input::FetchFailed { id: request.id, why };
            if why == FetchFailure::Corrupt { world.lie(request.node, input) } else { world.handle(input) }
        }
        Duty::Persist if !well => world.fail_persist(),
        Duty::Stage { app, bundle } if !well => {
            let why = [StageFailure::Bad(words()), StageFailure::NoSpace(words()), StageFailure::Other(words())];
            let result = Err(why[program.below(3)].clone());
            world.handle(Input::Staged { app, bundle, result });
        }
        Duty::Switch { app, bundle } if !well => {
            world.handle(Input::Switched { app, bundle, result: Err(words()) });
        }
        Duty::CheckHealth { app, bundle } if !well => {
            world.handle(Input::Health { app, bundle, healthy: false, words: words() });
        }
        Duty::Dial(address) => {
            if well {
                let node = peer(u8::try_from(program.below(PEERS.into())).expect("few peers"));
                world.reach(node, address);
            } else {
                world.handle(Input::DialFailed { address });
            }
        }
        duty => world.fulfil(duty),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let last = u8::try_from(history().len() - 1).expect("few states");
    let connect = |node: u8| vec![0, node];
    // A digest of this state, and the pack for the question that follows.
    let digest = |node: u8, state: u8| vec![2, node, state, 0];
    let pack = |node: u8, state: u8| vec![3, node, state];
    let holds = |node: u8, seq: u8| vec![2, node, 0, 3, seq - 1, 1];
    let well = |times: usize| [9, 0, 0, 1].repeat(times);
    let badly = |more: u8| vec![9, 0, 0, 0, more];
    let restart = |durable: u8| vec![14, 0, durable];
    let stories = [
        vec![connect(0), digest(0, 2), pack(0, 2), well(1), holds(0, 2), well(12)],
        vec![connect(0), connect(1), digest(0, 2), pack(0, last), digest(1, last), pack(1, last), well(3), restart(1)],
        vec![vec![13, 0, 2], well(2), connect(1), holds(1, 2), badly(3), well(4), restart(0), well(4), vec![12, 0]],
        vec![connect(2), vec![8, 2, 3, 0], pack(2, 1), connect(0), digest(0, 4), pack(0, 4), well(2), vec![1, 2]],
        vec![connect(0), digest(0, 1), vec![2, 0, 0, 4, 1, 5], well(3), vec![2, 0, 0, 4, 2, 9], badly(0), well(3)],
        vec![vec![13, 0, 3], well(1), vec![6, 1, 5, 1], vec![7, 1, 6, 0, 40, 0, 3, 9], vec![6, 2, 2, 2]],
        vec![vec![15, 0, 1, 0, 0], vec![13, 0, 1], well(8), vec![13, 0, 8], well(3), restart(2), well(9), restart(3)],
        vec![
            connect(0),
            vec![4, 0, 0, 2, 1, 3, 0, 90, 0, 3, 77],
            connect(0),
            vec![5, 1, 3, 0, 1, 2, 3],
            vec![15, 0, 3, 7, 1, 1],
            vec![15, 0, 5],
        ],
    ];
    let settings = |(at, story): (u8, &Vec<Vec<u8>>)| {
        let story = story.concat();
        [0, 1].map(|closed| [&[at % 3, closed], story.as_slice()].concat())
    };
    let mut seeds: Vec<Vec<u8>> = (0..).zip(&stories).flat_map(settings).collect();
    // At the door of a closed mesh: true certificates, others', altered and none; then a member is taken back.
    let knock = |node: u8, shown: u8| [15, node, 4, node, shown, 0, 90, 0, 3, 7];
    let knocks = (0..4).flat_map(|node| (0..6).flat_map(move |shown| knock(node, shown))).collect();
    let taken_back = [vec![0, 3], digest(0, last), vec![13, 0, last], well(3), vec![12, 0, 0, 3]].concat();
    seeds.push([vec![0, 1], knocks, taken_back, vec![11, 0, 255, 255, 9]].concat());
    seeds
}

/// The longest that anything waits in these settings, with room to spare.
pub(crate) const LONG: Time = Time(366 * 24 * 3600 * 1000);
