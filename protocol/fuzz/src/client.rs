//! The client of TUF repositories as a state machine: refreshes against a repository that serves any version of a
//! document, altered ones, any bytes or nothing, with a metadata directory that others wrote to, and stops anywhere.
//! Nothing is kept that the keys did not sign, and nothing goes back.

mod search;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use burr_protocol::{
    Wall,
    trust::client::{Client, ClientError, MAX_ROOT, MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP, Step},
};
use serde_json::Value;

use super::{
    program::Program,
    shop::{self, NOW, history},
};

/// The files that a server has at each state: those of the states before stay.
static SERVED: LazyLock<Vec<BTreeMap<String, Vec<u8>>>> = LazyLock::new(|| {
    let mut served = BTreeMap::new();
    let state = |repository: &burr_protocol::trust::write::Repository| {
        served.extend(repository.files());
        served.clone()
    };
    history().iter().map(state).collect()
});
/// The `signed` part of every document, whatever its spelling.
static SIGNED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let documents = SERVED.iter().flat_map(BTreeMap::values);
    documents.map(|document| shop::signed(document).to_string()).collect()
});

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    if program.flag() {
        return search::run(program);
    }
    let mut directory = Directory::new(program.below(2));
    for _ in 0..16 {
        if program.is_over() {
            break;
        }
        if program.below(4) == 0 {
            directory.tamper(&mut program);
        }
        let _ = directory.refresh(&mut program);
    }
    directory.heal();
}

/// A client's metadata directory.
struct Directory {
    kept: BTreeMap<String, Vec<u8>>,
    /// The versions that nothing may go back behind.
    floors: BTreeMap<String, u64>,
}

impl Directory {
    fn new(root: usize) -> Self {
        let root = SERVED[SERVED.len() - 1][&format!("{}.root.json", root + 1)].clone();
        Self { kept: BTreeMap::from([("root".to_owned(), root)]), floors: BTreeMap::new() }
    }

    /// Someone else writes to the directory: what was kept counts no more.
    fn tamper(&mut self, program: &mut Program<'_>) {
        let role = ["root", "timestamp", "snapshot", "targets", "app.shop.stable"][program.below(5)];
        let served: Vec<&Vec<u8>> = SERVED[SERVED.len() - 1].values().collect();
        let mut bytes = match program.below(3) {
            0 => program.take().to_vec(),
            1 => served[program.below(served.len())].clone(),
            _ => self.kept.get(role).cloned().unwrap_or_default(),
        };
        if program.flag() {
            program.alter(&mut bytes);
        }
        self.kept.insert(role.to_owned(), bytes);
        self.floors.clear();
    }

    /// One refresh, and perhaps a search after it.
    fn refresh(&mut self, program: &mut Program<'_>) -> Result<(), ClientError> {
        let state = program.below(SERVED.len());
        let days = [0, 0, 0, 29, 31, 400][program.below(6)];
        let mut client = Client::new(Wall(NOW.0 + days * 24 * 60 * 60));
        self.go(&mut client, |name| served(program, state, name))?;
        for role in ["root", "timestamp", "snapshot", "targets"] {
            let version = client.version(role).expect("a complete refresh trusts the four roles");
            assert!(self.floors.get(role).is_none_or(|floor| version >= *floor), "{role} went back to {version}");
        }
        let path = format!("app/shop/stable/{}.burr", program.below(6));
        client.find(&path)?;
        self.go(&mut client, |name| served(program, state, name))?;
        if let Some(target) = client.found() {
            let seq = path.trim_start_matches("app/shop/stable/").trim_end_matches(".burr");
            let release = shop::release("stable", seq.parse().expect("a number"));
            assert_eq!((target.path(), target.length()), (path.as_str(), release.payload.size));
            assert!(target.check().finish().is_err(), "no target is empty");
        }
        Ok(())
    }

    /// Carries out a client's steps, with the answers that `fetch` gives.
    fn go(&mut self, client: &mut Client, mut fetch: impl FnMut(&str) -> Served) -> Result<(), ClientError> {
        for _ in 0..100 {
            match client.step()? {
                Step::Kept { role, .. } => client.give(self.kept.get(&role).cloned())?,
                Step::Fetch { name, limit } => {
                    assert!(limit <= most(&name), "{name} may have {limit} bytes");
                    match fetch(&name) {
                        Served::File(bytes) => client.give(Some(bytes))?,
                        Served::Absent => client.give(None)?,
                        // In the middle of it: what was kept so far stays.
                        Served::Stop => return Err(ClientError::Absent { name }),
                    }
                }
                Step::Keep { role, bytes } => self.keep(role, &bytes),
                Step::Forget { role } => {
                    self.kept.remove(&role);
                    // What the revoked key signed may have been far ahead, of whatever is below it.
                    self.floors.retain(|role, _| role == "root");
                }
                Step::Done => return Ok(()),
            }
        }
        panic!("a refresh ends");
    }

    fn keep(&mut self, role: String, bytes: &[u8]) {
        let document: Value = serde_json::from_slice(bytes).expect("what is kept is JSON");
        assert!(SIGNED.contains(&document["signed"].to_string()), "{role} was not signed like this");
        let version = document["signed"]["version"].as_u64().expect("a version");
        let floor = self.floors.entry(role.clone()).or_insert(version);
        assert!(version >= *floor, "{role} went back from {floor} to {version}");
        *floor = version;
        self.kept.insert(role, bytes.to_vec());
    }

    /// Whatever happened, an honest server and a sound root lead to the newest state.
    fn heal(&mut self) {
        let root = self
            .kept
            .get("root")
            .filter(|root| burr_protocol::trust::client::check_root(root).is_ok() && shop::is_signed(root.as_slice()));
        if root.is_none() {
            *self = Self { kept: std::mem::take(&mut self.kept), floors: BTreeMap::new() };
            self.kept.extend(Self::new(0).kept);
        }
        let newest = SERVED.len() - 1;
        let mut client = Client::new(NOW);
        let done = self.go(&mut client, |name| Served::of(newest, name));
        assert_eq!(done, Ok(()), "an honest server heals");
        assert_eq!(client.version("timestamp"), Some(shop::newest().verified().timestamp_version()));
    }
}

/// What comes of a question to a server.
enum Served {
    File(Vec<u8>),
    Absent,
    /// The refresh ends here.
    Stop,
}

impl Served {
    /// An honest answer at some state.
    fn of(state: usize, name: &str) -> Self {
        SERVED[state].get(name).cloned().map_or(Self::Absent, Self::File)
    }
}

/// What a server answers that is mostly at some state, and sometimes not honest.
fn served(program: &mut Program<'_>, state: usize, name: &str) -> Served {
    match program.below(10) {
        0 => Served::Stop,
        1 => Served::Absent,
        2 => Served::File(program.take().to_vec()),
        3 => Served::of(program.below(SERVED.len()), name),
        4 => match Served::of(state, name) {
            Served::File(mut bytes) => {
                program.alter(&mut bytes);
                Served::File(bytes)
            }
            other => other,
        },
        5 => {
            let all: Vec<&Vec<u8>> = SERVED[SERVED.len() - 1].values().collect();
            Served::File(all[program.below(all.len())].clone())
        }
        _ => Served::of(state, name),
    }
}

fn most(name: &str) -> u64 {
    match name {
        "timestamp.json" => MAX_TIMESTAMP,
        name if name.ends_with(".root.json") => MAX_ROOT,
        name if name.ends_with(".snapshot.json") => MAX_SNAPSHOT,
        _ => MAX_TARGETS,
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let last = u8::try_from(history().len() - 1).expect("few states");
    // Each refresh: tamper or not, the state, the days that passed; then an answer for each question.
    let honest = |state: u8| [1, state, 0, 9, 9, 9, 9, 9, 3, 9];
    let mut all: Vec<u8> = vec![0, 0];
    all.extend((0..=last).flat_map(honest));
    let mut seeds = vec![all, vec![0, 0], vec![0, 1, 1, 2, 4, 9, 9, 9]];
    seeds.push([&[0, 0][..], &honest(4), &[1, 2, 0, 9, 3, 1, 9, 9], &honest(last)].concat());
    seeds.push([&[0, 0][..], &honest(2), &[0, 2, 1, 5, 0], &honest(last), &[1, 5, 0, 4, 1, 30, 0, 3, 7]].concat());
    seeds.extend(search::seeds());
    seeds
}
