//! Messages and announcements: one spelling each, nothing over a bound; and what is inside of them.

use burr_protocol::{
    Hash, NodeId, RepositoryId,
    fetch::{MAX_PIECES, PieceMap, Pieces, piece_size},
    wire::{
        Announcement, Digest, Holding, MAX_ANNOUNCEMENT, MAX_MESSAGE, MAX_RECEIPTS, Mark, Message, MetadataVersion,
        Room,
    },
};

use super::{records::receipt, shop};

pub(crate) fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if kind % 4 == 3 {
        if let Ok(announcement) = Announcement::decode(bytes) {
            assert!(bytes.len() <= MAX_ANNOUNCEMENT);
            assert_eq!(announcement.encode(), bytes, "an announcement has one spelling");
        }
        return;
    }
    let Ok(message) = Message::decode(bytes) else { return };
    assert!(bytes.len() <= MAX_MESSAGE);
    assert_eq!(message.encode(), bytes, "a message has one spelling");
    match message {
        Message::Holds { size, pieces, .. } => check_pieces(size, &pieces),
        Message::Receipts(receipts) => {
            assert!(receipts.len() <= MAX_RECEIPTS);
            for signed in receipts {
                if let Ok(receipt) = signed.verify() {
                    assert_eq!(signed.peek().as_ref(), Some(&receipt));
                }
            }
        }
        _ => {}
    }
}

/// A map says the same after it was read and told on, and no blob has more pieces than there may be.
fn check_pieces(size: u64, map: &PieceMap) {
    let pieces = Pieces::of(size, map);
    assert!(pieces.count() as u64 <= MAX_PIECES && pieces.len() <= pieces.count());
    assert!(piece_size(size).saturating_mul(pieces.count() as u64) >= size);
    assert_eq!(Pieces::of(size, &pieces.map()), pieces);
    let mut merged = Pieces::none(size);
    merged.merge(&pieces);
    assert_eq!(merged, pieces);
    assert!(!pieces.adds_to(&merged));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let newest = shop::newest();
    let (repository, pack) = (newest.id(), newest.verified().pack_hash());
    let version = MetadataVersion { root: 2, timestamp: 300 };
    let mark = Mark { repository, device: NodeId([2; 32]), counter: 300 };
    let digest = Digest {
        collects: true,
        site: Some("depot".to_owned()),
        follows: vec![repository, RepositoryId([9; 32])],
        holdings: vec![Holding { repository, version, pack }],
        marks: vec![mark],
        more: Some(Hash([7; 32])),
        room: Room::Members,
    };
    let messages = [
        Message::Digest(digest),
        Message::AskPack { repository, pack },
        Message::Pack { repository, bytes: vec![1, 2, 3] },
        Message::Want { blobs: vec![Hash([1; 32]), Hash([2; 32])], outward: true },
        Message::Unwant(vec![Hash([1; 32])]),
        Message::Holds { blob: Hash([1; 32]), size: 600_000, pieces: PieceMap::Some(vec![5]) },
        Message::Holds { blob: Hash([1; 32]), size: u64::MAX, pieces: PieceMap::All },
        Message::Receipts(vec![receipt(0, 1).1, receipt(1, 300).1]),
        Message::Stored(vec![mark, mark]),
        Message::Also { blob: Hash([1; 32]), pieces: vec![0, 300, u16::MAX] },
    ];
    let timestamp = newest.verified().timestamp().to_vec();
    let announcement = Announcement { repository, timestamp, pack, root: 2 };
    let mut seeds: Vec<Vec<u8>> = messages.iter().map(|message| [vec![0], message.encode()].concat()).collect();
    seeds.push([vec![3], announcement.encode()].concat());
    seeds
}
