//! Invitations, requests and answers: what a device and its enroller believe of each other, and what a courier in
//! between can't do.

use burr_protocol::{
    SealKey, Wall,
    member::{Answer, EnrolError, Invitation, InvitationError, MAX_INVITATION, Refusal, Request, Welcome},
    trust::write::{Keys, Repository},
};
use proptest::prelude::*;

use super::{certificate, device, enroller, fleet_shop, node};
use crate::trust::repository::{NOW, key, keys};

const SEAL: SealKey = SealKey([9; 32]);

fn invitation() -> Invitation {
    Invitation {
        repository: fleet_shop().id(),
        fleet: "stores".to_owned(),
        enroller: node(&key(60)),
        addresses: vec!["192.168.1.20:7447".to_owned()],
        nonce: [7; 16],
        expires: Wall(NOW.0 + 3600),
    }
}

#[test]
fn an_invitation_survives_people_and_shows_their_mistakes() {
    // §13.5
    let invitation = invitation();
    let text = invitation.to_string();
    assert!(text.starts_with("burr1") && text.len() < 220, "{} characters", text.len());
    assert_eq!(text.parse(), Ok(invitation.clone()));
    let spaced = format!(" {}\n{} ", &text[..40], text[40..].to_uppercase());
    assert_eq!(spaced.parse(), Ok(invitation.clone()));
    for at in 5..text.len() {
        let mut wrong = text.clone().into_bytes();
        wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
        let read = String::from_utf8(wrong).unwrap().parse::<Invitation>();
        assert_eq!(read, Err(InvitationError::Damaged), "letter {at}");
        assert_eq!(text[..at].parse::<Invitation>(), Err(InvitationError::Damaged));
    }
    assert_eq!("hello".parse::<Invitation>(), Err(InvitationError::Other));
    assert_eq!("burr1".repeat(MAX_INVITATION).parse::<Invitation>(), Err(InvitationError::Damaged));
    let many = Invitation { addresses: vec!["1.2.3.4:5".to_owned(); 9], ..invitation.clone() };
    assert_eq!(many.to_string().parse::<Invitation>(), Err(InvitationError::Damaged));
    assert!(!format!("{invitation:?}").contains("nonce"), "a log does not give it away");
}

#[test]
fn a_request_proves_the_invitation_and_the_node() {
    // §13.6
    let invitation = invitation();
    let bytes = Request::seal(&invitation, &device(), SEAL);
    let request = Request::open(&bytes).unwrap();
    assert_eq!((request.node, request.seal_key, request.invitation), (node(&device()), SEAL, invitation.id()));
    assert_eq!(Request::is_invited(&bytes, &invitation.key()), Ok(()));
    let other = Invitation { nonce: [8; 16], ..invitation.clone() };
    assert_eq!(Request::is_invited(&bytes, &other.key()), Err(EnrolError::NotInvited));
    // Who carries a request can't make it theirs: no byte of it is free.
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        let invited = Request::open(&bent).is_ok() && Request::is_invited(&bent, &invitation.key()).is_ok();
        assert!(!invited, "byte {at}");
        assert!(Request::open(&bytes[..at]).is_err());
    }
}

#[test]
fn a_device_believes_only_what_its_invitation_pins() {
    // §13.6
    let shop_of = fleet_shop();
    let certificate = certificate(&shop_of).sign(&[&enroller()]).unwrap();
    let welcome = Welcome { certificate, pack: shop_of.pack().to_vec(), wrapped: vec![1, 2, 3] };
    let check = |welcome: Welcome, node, seal| {
        let answer = Answer::decode(&Answer::Welcome(welcome).encode()).unwrap();
        answer.check(&invitation(), node, seal, NOW).map(|(welcome, ..)| welcome.wrapped)
    };
    assert_eq!(check(welcome.clone(), node(&device()), SEAL), Ok(vec![1, 2, 3]));
    // For another key or node, and with another publisher's metadata.
    let other = SealKey([8; 32]);
    assert_eq!(check(welcome.clone(), node(&device()), other), Err(EnrolError::OtherCertificate));
    assert!(matches!(check(welcome.clone(), node(&key(51)), SEAL), Err(EnrolError::Certificate(_))));
    let others = Keys { root: Some(key(77)), ..keys() };
    let other = Repository::create("shop", &["beta", "stable"], &others, NOW).unwrap();
    let elsewhere = Welcome { pack: other.pack().to_vec(), ..welcome.clone() };
    assert!(matches!(check(elsewhere, node(&device()), SEAL), Err(EnrolError::Metadata(_))));
    let refused = Answer::decode(&Answer::Refused(Refusal::Used).encode()).unwrap();
    let refused = refused.check(&invitation(), node(&device()), SEAL, NOW).unwrap_err();
    assert!(refused.to_string().contains("used already"), "{refused}");
    let long = Answer::Welcome(Welcome { wrapped: vec![0; 5000], ..welcome });
    assert_eq!(Answer::decode(&long.encode()), Err(EnrolError::Malformed));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), text in "burr1[a-z2-7]{0,300}") {
        let _ = Request::open(&bytes);
        let _ = Answer::decode(&bytes);
        let _ = text.parse::<Invitation>();
    }
}
