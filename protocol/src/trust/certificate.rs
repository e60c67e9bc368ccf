//! The envelope of a member's certificate: a document as metadata has them, signed by the role of its fleet. What it
//! says is `member`'s to judge.

use serde_json::Value;

use super::{
    document::{self, unhex},
    provider, wall,
    write::Signers,
};
use crate::{Wall, member::MAX_CERTIFICATE};

/// The `signed` part of a document in its one spelling, and the ids and signatures of the keys that signed it.
pub(crate) fn open(bytes: &[u8]) -> Result<(Value, Vec<(String, String)>), String> {
    if bytes.len() > MAX_CERTIFICATE {
        return Err("it is over 8 KiB".to_owned());
    }
    let mut value = document::read_value("the certificate", bytes).map_err(|error| error.to_string())?;
    let text = |signature: &Value, field: &str| signature[field].as_str().unwrap_or_default().to_owned();
    let signatures = value["signatures"].as_array().into_iter().flatten();
    let signatures = signatures.map(|signature| (text(signature, "keyid"), text(signature, "sig"))).collect();
    Ok((value["signed"].take(), signatures))
}

/// Whether every signature is by a key that the role names, and they are enough.
pub(crate) fn check_signatures(bytes: &[u8], signers: &Signers) -> Result<(), String> {
    let (signed, signatures) = open(bytes)?;
    let message = super::write::canonical(&signed);
    for (id, signature) in &signatures {
        let public = signers.public(id).zip(unhex(signature));
        if !public.is_some_and(|(public, signature)| provider::is_signed(&public, &message, &signature)) {
            let id: String = id.chars().take(64).collect();
            return Err(format!("the signature of key {id:?} does not hold"));
        }
    }
    let (have, need) = (signatures.len(), signers.threshold);
    if have >= need && need > 0 { Ok(()) } else { Err(format!("it has {have} of {need} signatures")) }
}

/// A time in the form of TUF's `expires`; `None` if it has no such form.
pub(crate) fn time_text(time: Wall) -> Option<String> {
    jiff::Timestamp::from_second(time.0).ok().map(|time| time.to_string())
}

/// A time in exactly that form.
pub(crate) fn time(text: &str) -> Option<Wall> {
    let time = wall(text.parse::<jiff::Timestamp>().ok()?);
    time_text(time).filter(|again| again == text).map(|_| time)
}
