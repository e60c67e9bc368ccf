//! News that comes between the first digests of two nodes is told, and not left for the next sync (§6).

use std::collections::BTreeMap;

use burr_protocol::{
    Agent, NodeId, Now, Time, Wall,
    action::{Action, Input},
    config::{Config, Follow},
    wire::Message,
};
use ed25519_dalek::SigningKey;

use crate::trust::repository;

#[test]
fn a_peer_that_has_not_introduced_itself_is_told() {
    let shop = repository::shop();
    let follow = Follow { repository: shop.id(), app: "shop".to_owned(), cache: Some(None), install: None };
    let config = Config { follows: vec![follow], ..Config::default() };
    let at = |ms| Now { time: Time(ms), wall: Some(Wall(1_800_000_000)) };
    let (mut agent, _) = Agent::new(SigningKey::from_bytes(&[1; 32]), config, Vec::new(), BTreeMap::new(), at(0));
    let peer = NodeId(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
    let mut actions = Vec::new();
    agent.handle(at(1), Input::Connected { node: peer, address: None, near: false }, &mut actions);
    agent.handle(at(2), Input::Import { repository: shop.id(), pack: shop.pack().to_vec() }, &mut actions);
    let token = actions.iter().find_map(|action| match action {
        Action::Persist { token, .. } => Some(*token),
        _ => None,
    });
    actions.clear();
    agent.handle(at(3), Input::Stored(token.expect("good metadata is written down")), &mut actions);
    let told = actions.iter().any(|action| match action {
        Action::Send { node, bytes } if *node == peer => match Message::decode(bytes) {
            Ok(Message::Digest(digest)) => digest.holdings.iter().any(|holding| holding.repository == shop.id()),
            _ => false,
        },
        _ => false,
    });
    assert!(told, "{actions:?}");
}
