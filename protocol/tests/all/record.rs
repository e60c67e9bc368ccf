//! Records: what is written is read back, and what is not a record is said to be none.
//! Rule numbers are those of `protocol/README.md`.

use burr_protocol::{
    Hash, NodeId, RepositoryId, Shared, Wall,
    budget::Month,
    receipt::SignedReceipt,
    record::{AppRecord, Deferred, Installed, Record, ReleaseId, Trial},
    release::{Capacitor, Payload, Release},
    rules::Rules,
    seal::{Epoch, EpochKey, Owner, ReleaseKey, SUITE, Sealed},
    wire::Mark,
};
use proptest::{collection::vec, option, prelude::*};

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9_-]{0,63}"
}

fn release_id() -> impl Strategy<Value = ReleaseId> {
    (any::<[u8; 32]>(), name(), any::<u64>()).prop_map(|(repository, channel, seq)| ReleaseId {
        repository: RepositoryId(repository),
        channel,
        seq,
    })
}

fn installed() -> impl Strategy<Value = Shared<Installed>> {
    (release_id(), name(), any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(id, version, bundle, bytes)| Installed { id, version, bundle: Hash(bundle), bytes }.into())
}

fn sealed(seq: u64) -> Sealed {
    let epoch = Epoch { repository: RepositoryId([1; 32]), fleet: "stores".to_owned(), number: 2 };
    let owner = Owner { epoch, app: "shop".to_owned(), channel: "stable".to_owned(), seq };
    let key = EpochKey::from_bytes([3; 32]).wrap(&ReleaseKey::new(owner, [4; 32]), [5; 24]);
    Sealed { fleet: "stores".to_owned(), epoch: 2, channel: "stable".to_owned(), seq, suite: SUITE.to_owned(), key }
}

fn release() -> impl Strategy<Value = Release> {
    (name(), name(), any::<[u64; 4]>(), any::<[u8; 32]>()).prop_map(
        |(app, channel, [seq, size, files, unpacked], blob)| {
            let payload = Payload { blob: Hash(blob), size };
            let rules = Rules { rollout: u16::from(blob[0]), ..Rules::default() };
            let (version, bundle) = ("1.0.0".to_owned(), Hash(blob));
            let enc = (files % 2 == 0).then(|| sealed(seq));
            let session_key = (blob[1] > 127).then(|| format!("{}:{}", blob[2], blob[3]));
            let capacitor = (blob[0] > 127).then(|| Capacitor { checksum: Hash(blob).to_string(), session_key });
            Release { app, channel, seq, version, bundle, payload, files, unpacked, rules, enc, capacitor }
        },
    )
}

fn trial() -> impl Strategy<Value = Box<Trial>> {
    let sources = vec((any::<[u8; 32]>().prop_map(NodeId), any::<u64>()), 0..3);
    (release(), any::<u8>(), option::of(".{0,40}"), sources, any::<(u64, i64)>()).prop_map(
        |(release, starts, back, sources, (took_ms, issued))| {
            Box::new(Trial {
                repository: RepositoryId([7; 32]),
                release,
                starts,
                back,
                sources,
                took_ms,
                issued: Wall(issued),
                said: "stopped".to_owned(),
            })
        },
    )
}

fn state() -> impl Strategy<Value = AppRecord> {
    let deferred = (release_id(), any::<[i64; 2]>())
        .prop_map(|(id, [since, until])| Box::new(Deferred { id, since: Wall(since), until: Wall(until) }));
    let by_hand = (option::of(installed()), any::<bool>(), option::of(deferred));
    let rest = (option::of(trial()), vec(release_id(), 0..3), any::<u64>());
    (option::of(installed()), vec(installed(), 0..3), rest, by_hand).prop_map(
        |(active, previous, (trial, bad, counter), (factory, held, deferred))| AppRecord {
            active,
            previous,
            trial,
            bad,
            counter,
            factory,
            held,
            deferred,
        },
    )
}

fn receipt() -> impl Strategy<Value = Record> {
    let signed = (vec(any::<u8>(), 0..300), vec(any::<u8>(), 64))
        .prop_map(|(receipt, signature)| SignedReceipt::of(receipt, signature.try_into().unwrap()));
    (any::<([u8; 32], [u8; 32], u64)>(), signed).prop_map(|((repository, device, counter), signed)| {
        let mark = Mark { repository: RepositoryId(repository), device: NodeId(device), counter };
        Record::Receipt { mark, receipt: Some(signed) }
    })
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (name(), state()).prop_map(|(app, state)| Record::App { app, state }),
        receipt(),
        (name(), name(), name()).prop_map(|(app, device, channel)| Record::Assigned {
            app,
            device,
            channel: Some(channel)
        }),
        any::<(u32, u64)>().prop_map(|(number, bytes)| Record::Used(Month { number, bytes })),
    ]
}

proptest! {
    // §10.2
    #[test]
    fn records_come_back_as_they_went(record in record()) {
        let (key, value) = record.entry().expect("not metadata");
        prop_assert_eq!(Record::read(&key, &value.expect("nothing is forgotten")), Ok(record));
    }

    // §10.4
    #[test]
    fn any_bytes_are_a_record_or_none(record in record(), key in vec(any::<u8>(), 0..80), value in vec(any::<u8>(), 0..80)) {
        let _ = Record::read(&key, &value);
        let (key, _) = record.entry().expect("not metadata");
        let _ = Record::read(&key, &value);
    }

    // §10.4
    #[test]
    fn a_cut_record_is_none(record in record(), cut in 1usize..40) {
        let (key, value) = record.entry().expect("not metadata");
        let mut value = value.expect("nothing is forgotten");
        value.truncate(value.len().saturating_sub(cut));
        prop_assert!(Record::read(&key, &value).is_err());
    }
}

#[test]
fn forgetting_has_the_key_of_what_is_forgotten() {
    // §10.2
    let mark = Mark { repository: RepositoryId([1; 32]), device: NodeId([2; 32]), counter: 3 };
    let signed = SignedReceipt::of(vec![1], [0; 64]);
    let (kept, value) = Record::Receipt { mark, receipt: Some(signed) }.entry().unwrap();
    let (forgotten, nothing) = Record::Receipt { mark, receipt: None }.entry().unwrap();
    assert_eq!(kept, forgotten);
    assert!(value.is_some() && nothing.is_none());
    let key = String::from_utf8(kept).unwrap();
    assert_eq!(key, format!("receipt/{}/{}/00000000000000000003", "01".repeat(32), "02".repeat(32)));
}
