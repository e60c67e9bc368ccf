//! Membership: certificates of any content that the fleet's key signed, invitations as people type them, requests and
//! answers. Nobody is let in whom the fleet did not sign for, and nobody whom it took back.

use burr_protocol::{
    NodeId, SealKey, Wall,
    member::{Answer, Certificate, Invitation, MAX_GROUPS, MAX_REQUEST, Refusal, Request, Welcome, admit},
};

use super::{
    program::Program,
    shop::{self, NOW, key, revoked, sign_text},
};

const DEVICE: u8 = 50;
const SEAL_KEY: SealKey = SealKey([8; 32]);

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    match program.below(5) {
        0 => certificate(program.rest()),
        1 => certificate(&sign_text(program.rest(), &[key(9)])),
        2 => invited(&String::from_utf8_lossy(program.rest())),
        3 => request(program),
        _ => answer(program),
    }
}

fn node(seed: u8) -> NodeId {
    NodeId(key(seed).verifying_key().to_bytes())
}

fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::read(bytes) else { return };
    assert!(certificate.groups.len() <= MAX_GROUPS && !certificate.capabilities.is_empty() && certificate.serial > 0);
    let again = certificate.sign(&[&key(9)]).expect("what was read is within its bounds");
    assert_eq!(Certificate::read(&again).as_ref(), Ok(&certificate), "a certificate comes back as it went");
    let (verified, fleets) = (shop::newest().verified(), [certificate.fleet.clone()].into());
    for who in [certificate.node, node(DEVICE)] {
        let Ok(admitted) = admit(verified, &fleets, bytes, who, NOW) else { continue };
        assert_eq!(again, bytes, "one that counts has one spelling, and the fleet's key signed it");
        assert_eq!((admitted.node, admitted.repository, admitted.fleet.as_str()), (who, shop::id(), "stores"));
        assert!(admitted.not_after >= NOW && (admitted.node != revoked() || admitted.serial > 3));
        assert!(admit(verified, &fleets, bytes, node(DEVICE + 1), NOW).is_err(), "it is of use to its own node alone");
        assert!(admit(verified, &fleets, bytes, who, Wall(admitted.not_after.0.saturating_add(1))).is_err());
        assert!(admit(verified, &["other".to_owned()].into(), bytes, who, NOW).is_err());
    }
}

fn invited(text: &str) {
    let Ok(invitation) = text.parse::<Invitation>() else { return };
    let spelled = invitation.to_string();
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(spelled, plain.to_ascii_lowercase(), "an invitation has one spelling");
    let asked = Request::seal(&invitation, &key(DEVICE), SEAL_KEY);
    assert!(Request::open(&asked).is_ok_and(|request| request.invitation == invitation.id()));
    assert_eq!(Request::is_invited(&asked, &invitation.key()), Ok(()));
}

fn request(mut program: Program<'_>) {
    let mut bytes = program.take().to_vec();
    let altered = bytes.is_empty();
    if altered {
        bytes = Request::seal(&invitation(), &key(DEVICE), SEAL_KEY);
        program.alter(&mut bytes);
    }
    let _ = Request::is_invited(&bytes, &invitation().key());
    if let Ok(request) = Request::open(&bytes) {
        assert!(bytes.len() <= MAX_REQUEST);
        // The device's own signature stands under all that it says.
        assert!(!altered || (request.node == node(DEVICE) && request.seal_key == SEAL_KEY));
    }
}

fn answer(mut program: Program<'_>) {
    let bytes = if program.flag() {
        let certificate = sign_text(program.rest(), &[key(9)]);
        Answer::Welcome(Welcome { certificate, pack: shop::newest().pack().to_vec(), wrapped: Vec::new() }).encode()
    } else {
        program.rest().to_vec()
    };
    let Ok(answer) = Answer::decode(&bytes) else { return };
    assert_eq!(answer.encode(), bytes, "an answer has one spelling");
    if let Ok((_, verified, certificate)) = answer.check(&invitation(), node(DEVICE), SEAL_KEY, NOW) {
        assert_eq!((verified.repository(), certificate.repository), (shop::id(), shop::id()));
        assert_eq!((certificate.node, certificate.seal_key), (node(DEVICE), SEAL_KEY));
    }
}

fn invitation() -> Invitation {
    Invitation {
        repository: shop::id(),
        fleet: "stores".to_owned(),
        enroller: node(9),
        addresses: vec!["/ip4/192.0.2.1/udp/4001/quic-v1".to_owned()],
        nonce: [6; 16],
        expires: Wall(NOW.0 + 3600),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let of = shop::certificate;
    let sign = |certificate: &Certificate| certificate.sign(&[&key(9)]).expect("within its bounds");
    let text = |document: &[u8]| serde_json::to_vec(&shop::signed(document)).expect("a value");
    let seed = |kind: &[u8], rest: &[u8]| [kind, rest].concat();
    let run = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_le_bytes(), bytes].concat();
    let own = sign(&of(node(DEVICE), 1));
    let welcome = Welcome { certificate: own.clone(), pack: vec![1, 2], wrapped: vec![3] };
    let asked = Request::seal(&invitation(), &key(DEVICE), SEAL_KEY);
    vec![
        seed(&[0], &own),
        seed(&[1], &text(&own)),
        seed(&[1], &text(&sign(&of(revoked(), 3)))),
        seed(&[1], &text(&sign(&of(revoked(), 4)))),
        seed(&[2], invitation().to_string().to_uppercase().as_bytes()),
        seed(&[3], &run(&asked)),
        seed(&[3, 0, 0, 0, 40, 0, 3], &[1]),
        seed(&[4, 0], &Answer::Welcome(welcome).encode()),
        seed(&[4, 0], &Answer::Refused(Refusal::Used).encode()),
        seed(&[4, 1], &text(&own)),
    ]
}
