//! The ceremony, as stories: several people hold keys, sign on separate machines, lose keys and replace them; and
//! devices follow, whatever they missed.

mod audit;
mod draft;
mod rotation;

use burr_protocol::trust::{
    Verified,
    write::{Change, Draft, Repository, Role, WriteError, key_id},
};
use ed25519_dalek::SigningKey;

use crate::trust::repository::{NOW, key, keys, release, shop};

/// Three people, each with one key of a channel.
pub(crate) fn team() -> [SigningKey; 3] {
    [key(21), key(22), key(23)]
}

pub(crate) fn id(key: &SigningKey) -> String {
    key_id(&key.verifying_key())
}

pub(crate) fn channel(name: &str) -> Role {
    Role::Channel(name.to_owned())
}

/// Makes a change with all the keys that `keys()` and the given ones are.
pub(crate) fn change(shop: &mut Repository, change: &Change, more: &[&SigningKey]) {
    let draft = shop.propose(change, NOW).unwrap();
    let solo = keys();
    let all: Vec<&SigningKey> = solo.all().into_iter().chain(more.iter().copied()).collect();
    shop.sign_and_submit(draft, &all, NOW).unwrap();
}

/// A shop whose channel `team` takes two of three.
pub(crate) fn team_shop() -> Repository {
    let mut shop = shop();
    let [ana, bo, cy] = team();
    let keys = [&ana, &bo, &cy].map(SigningKey::verifying_key).to_vec();
    change(&mut shop, &Change::AddChannel { channel: "team".to_owned(), keys, threshold: 2 }, &[&ana, &bo]);
    shop
}

/// A proposed release as a file.
pub(crate) fn proposed(shop: &Repository, channel: &str, seq: u64) -> Vec<u8> {
    shop.propose_release(&release(channel, seq), [7; 32], NOW).unwrap().encode()
}

/// Somebody signs a file on a machine of their own, which holds nothing else.
pub(crate) fn sign(file: &[u8], key: &SigningKey) -> Vec<u8> {
    let mut draft = Draft::decode(file).unwrap();
    draft.sign(key).unwrap();
    draft.encode()
}

pub(crate) fn submit(shop: &mut Repository, file: &[u8]) -> Result<(), WriteError> {
    shop.submit(&Draft::decode(file)?, &keys().all(), NOW)
}

pub(crate) fn follows(shop: &Repository, held: &Verified) -> Verified {
    burr_protocol::trust::verify(shop.id(), Some(held), shop.pack()).unwrap()
}
