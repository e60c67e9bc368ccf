//! Wire codecs: one encoding a message, nothing over a bound, no panic on anything.
//! Rule numbers are those of `protocol/README.md`.

use burr_protocol::{
    Hash, NodeId, RepositoryId,
    fetch::PieceMap,
    receipt::SignedReceipt,
    wire::{
        Announcement, Digest, Holding, MAX_ALSO, MAX_ANNOUNCEMENT, MAX_MAP, MAX_MARKS, MAX_MESSAGE, MAX_RECEIPTS,
        MAX_WANTS, Mark, Message, MetadataVersion, Room, WireError,
    },
};
use proptest::{collection::vec, option, prelude::*};

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn repository() -> impl Strategy<Value = RepositoryId> {
    any::<[u8; 32]>().prop_map(RepositoryId)
}

fn mark() -> impl Strategy<Value = Mark> {
    (repository(), any::<[u8; 32]>(), any::<u64>()).prop_map(|(repository, device, counter)| Mark {
        repository,
        device: NodeId(device),
        counter,
    })
}

fn holding() -> impl Strategy<Value = Holding> {
    (repository(), any::<(u64, u64)>(), hash()).prop_map(|(repository, (root, timestamp), pack)| Holding {
        repository,
        version: MetadataVersion { root, timestamp },
        pack,
    })
}

fn receipt() -> impl Strategy<Value = SignedReceipt> {
    (vec(any::<u8>(), 0..300), vec(any::<u8>(), 64))
        .prop_map(|(receipt, signature)| SignedReceipt::of(receipt, signature.try_into().unwrap()))
}

fn map() -> impl Strategy<Value = PieceMap> {
    prop_oneof![Just(PieceMap::All), vec(any::<u8>(), 0..=MAX_MAP).prop_map(PieceMap::Some)]
}

fn digest() -> impl Strategy<Value = Digest> {
    let lists = (vec(repository(), 0..5), vec(holding(), 0..5), vec(mark(), 0..5));
    let room = prop_oneof![Just(Room::All), Just(Room::Members), Just(Room::None)];
    (any::<bool>(), option::of("[a-z]{1,64}"), lists, option::of(hash()), room).prop_map(
        |(collects, site, (follows, holdings, marks), more, room)| Digest {
            collects,
            site,
            follows,
            holdings,
            marks,
            more,
            room,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        digest().prop_map(Message::Digest),
        (repository(), hash()).prop_map(|(repository, pack)| Message::AskPack { repository, pack }),
        (repository(), vec(any::<u8>(), 0..2000)).prop_map(|(repository, bytes)| Message::Pack { repository, bytes }),
        (vec(hash(), 0..=MAX_WANTS), any::<bool>()).prop_map(|(blobs, outward)| Message::Want { blobs, outward }),
        vec(hash(), 0..=MAX_WANTS).prop_map(Message::Unwant),
        (hash(), any::<u64>(), map()).prop_map(|(blob, size, pieces)| Message::Holds { blob, size, pieces }),
        vec(receipt(), 0..4).prop_map(Message::Receipts),
        vec(mark(), 0..=MAX_RECEIPTS).prop_map(Message::Stored),
        (hash(), vec(any::<u16>(), 0..=MAX_ALSO)).prop_map(|(blob, pieces)| Message::Also { blob, pieces }),
    ]
}

fn announcement() -> impl Strategy<Value = Announcement> {
    (repository(), vec(any::<u8>(), 0..3000), hash(), any::<u64>())
        .prop_map(|(repository, timestamp, pack, root)| Announcement { repository, timestamp, pack, root })
}

proptest! {
    // §6.2
    #[test]
    fn messages_come_back_as_they_went(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    // §6.6
    #[test]
    fn announcements_come_back_as_they_went(announcement in announcement()) {
        prop_assert_eq!(Announcement::decode(&announcement.encode()), Ok(announcement));
    }

    // §6.2
    #[test]
    fn what_is_read_of_any_bytes_has_those_bytes(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        if let Ok(announcement) = Announcement::decode(&bytes) {
            prop_assert_eq!(announcement.encode(), bytes);
        }
    }

    // §6.2
    #[test]
    fn what_is_read_of_an_altered_message_has_the_altered_bytes(
        message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), more in any::<bool>(),
    ) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        if more {
            bytes.insert(at, byte);
        } else {
            bytes[at] = byte;
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }
}

#[test]
fn a_number_has_one_form() {
    // §6.2: one want, its count once as 1 and once as 0x81 0x00.
    let message = Message::Want { blobs: vec![Hash([7; 32])], outward: true };
    let mut bytes = message.encode();
    assert_eq!(bytes[..2], [3, 1]);
    bytes.splice(1..2, [0x81, 0x00]);
    assert_eq!(Message::decode(&bytes), Err(WireError::NotShortest));
    bytes = message.encode();
    bytes.push(0);
    assert_eq!(Message::decode(&bytes), Err(WireError::NotShortest));
}

#[test]
fn every_list_keeps_its_bound() {
    // §11
    let mark = Mark { repository: RepositoryId([1; 32]), device: NodeId([2; 32]), counter: 3 };
    let holding =
        Holding { repository: RepositoryId([1; 32]), version: MetadataVersion::default(), pack: Hash([1; 32]) };
    let receipt = SignedReceipt::of(Vec::new(), [0; 64]);
    let of = |digest| (Message::Digest(digest), 256);
    let messages = [
        of(Digest { follows: vec![RepositoryId([1; 32]); 257], ..Digest::default() }),
        of(Digest { holdings: vec![holding; 257], ..Digest::default() }),
        (Message::Digest(Digest { marks: vec![mark; MAX_MARKS + 1], ..Digest::default() }), MAX_MARKS),
        (Message::Want { blobs: vec![Hash([1; 32]); MAX_WANTS + 1], outward: true }, MAX_WANTS),
        (Message::Unwant(vec![Hash([1; 32]); MAX_WANTS + 1]), MAX_WANTS),
        (Message::Receipts(vec![receipt; MAX_RECEIPTS + 1]), MAX_RECEIPTS),
        (Message::Stored(vec![mark; MAX_RECEIPTS + 1]), MAX_RECEIPTS),
        (Message::Holds { blob: Hash([1; 32]), size: 1, pieces: PieceMap::Some(vec![0; MAX_MAP + 1]) }, MAX_MAP),
    ];
    for (message, bound) in messages {
        assert_eq!(Message::decode(&message.encode()), Err(WireError::TooMany(bound + 1, bound)));
    }
    let pack = Message::Pack { repository: RepositoryId([1; 32]), bytes: vec![0; MAX_MESSAGE] }.encode();
    assert_eq!(Message::decode(&pack), Err(WireError::TooLong(pack.len(), MAX_MESSAGE)));
    let long = vec![0; MAX_ANNOUNCEMENT + 1];
    assert_eq!(Announcement::decode(&long), Err(WireError::TooLong(MAX_ANNOUNCEMENT + 1, MAX_ANNOUNCEMENT)));
}
