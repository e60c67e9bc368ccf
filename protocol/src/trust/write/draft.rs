//! A draft: documents that are proposed and not yet signed by all who must. It is passed on as a file, signed on
//! separate machines, merged, and submitted to the repository that it follows on.
//!
//! A draft carries the trust pack that it starts from, so whoever signs needs nothing else: the pack is verified from
//! the repository's name, and what the draft changes is worked out from the documents themselves ([`Difference`]),
//! never taken from words beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};

use super::{
    Difference, Role, Signers, TrustError, Verified, WriteError,
    documents::{canonical, key_id},
    error::list,
    summary::{self, Review},
};
use crate::{
    RepositoryId,
    trust::{
        document::{hex, unhex},
        pack::{MAX_PACK, Pack},
        provider, verify,
    },
};

/// Bytes of a draft's file at most: a pack in hex, and documents that fit into the next one.
pub const MAX_DRAFT: usize = 3 * MAX_PACK;

const FORMAT: &str = "burr draft 1";

/// By which keys a document is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Those that the role has.
    Now,
    /// For a root: those of the root before.
    Before,
    /// For a root: its own.
    After,
}

/// Signatures that a document still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Whose document.
    pub role: Role,
    /// By which keys.
    pub when: When,
    /// Distinct keys that signed.
    pub have: usize,
    /// Distinct keys that must.
    pub need: usize,
    /// The ids of the keys that may still sign.
    pub may_sign: Vec<String>,
}

impl Missing {
    /// What is missing to a threshold, if anything is.
    pub(super) fn of(role: &Role, when: When, signers: &Signers, signed: &BTreeSet<String>) -> Option<Self> {
        let have = signers.keys.keys().filter(|id| signed.contains(*id)).count();
        let may_sign = signers.keys.keys().filter(|id| !signed.contains(*id)).cloned().collect();
        let enough = have >= signers.threshold && signers.threshold > 0;
        (!enough).then(|| Self { role: role.clone(), when, have, need: signers.threshold, may_sign })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Now => "",
            When::Before => " (by the keys before)",
            When::After => " (by the keys after)",
        };
        let Self { role, have, need, may_sign, .. } = self;
        write!(f, "{role}{when} has {have} of {need}; {} may still sign", list(may_sign))
    }
}

/// Proposed documents with the signatures that they have so far, every one of which holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    base: Verified,
    differences: Vec<Difference>,
    documents: Vec<Document>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Document {
    role: Role,
    signed: Map<String, Value>,
    /// What is signed: the canonical form.
    message: Vec<u8>,
    /// By key id, in hex.
    signatures: BTreeMap<String, String>,
    authorities: Vec<(When, Signers)>,
}

impl Document {
    fn public(&self, key_id: &str) -> Option<Vec<u8>> {
        self.authorities.iter().find_map(|(_, signers)| signers.public(key_id))
    }

    /// Adds a signature if it holds.
    fn add(&mut self, key_id: &str, signature: &str) -> Result<(), WriteError> {
        let holds = self
            .public(key_id)
            .zip(unhex(signature))
            .is_some_and(|(public, signature)| provider::is_signed(&public, &self.message, &signature));
        if !holds {
            let key_id = key_id.chars().take(64).collect();
            return Err(WriteError::BadSignature { role: self.role.clone(), key_id });
        }
        self.signatures.insert(key_id.to_owned(), signature.to_owned());
        Ok(())
    }

    fn missing(&self) -> impl Iterator<Item = Missing> {
        let have: BTreeSet<String> = self.signatures.keys().cloned().collect();
        self.authorities.iter().filter_map(move |(when, signers)| Missing::of(&self.role, *when, signers, &have))
    }

    fn envelope(&self) -> Value {
        let signatures = self.signatures.iter().map(|(keyid, sig)| json!({ "keyid": keyid, "sig": sig }));
        json!({ "signatures": signatures.collect::<Vec<_>>(), "signed": self.signed })
    }
}

impl Draft {
    /// A draft of these documents, in the order of their roles, none of them signed.
    pub(super) fn new(base: Verified, documents: Vec<(Role, Map<String, Value>)>) -> Result<Self, WriteError> {
        let Review { differences, before, after } = summary::review(&base, &documents)?;
        let authorities = |role: &Role| match role {
            Role::Root => vec![(When::Before, before[role].clone()), (When::After, after[role].clone())],
            role => vec![(When::Now, after.get(role).cloned().unwrap_or_default())],
        };
        let documents = documents.into_iter().map(|(role, signed)| Document {
            authorities: authorities(&role),
            message: canonical(&Value::Object(signed.clone())),
            role,
            signed,
            signatures: BTreeMap::new(),
        });
        Ok(Self { differences, documents: documents.collect(), base })
    }

    /// The repository that it is for.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.base.repository()
    }

    /// The app of that repository.
    #[must_use]
    pub fn app(&self) -> String {
        summary::app(&self.base)
    }

    /// Whether it releases something, or changes the rules of what was released.
    #[must_use]
    pub fn is_release(&self) -> bool {
        let is = |difference: &Difference| matches!(difference, Difference::Release { .. } | Difference::Rules { .. });
        self.differences.iter().any(is)
    }

    /// The metadata that it starts from.
    #[must_use]
    pub fn base(&self) -> &Verified {
        &self.base
    }

    /// All that would change, worked out from the documents: what a person is shown before they sign.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The signatures that are still missing, in the order of their documents; none if it can be submitted.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        self.documents.iter().flat_map(Document::missing).collect()
    }

    /// The key ids that signed so far, by role.
    pub fn signed_by(&self) -> impl Iterator<Item = (&Role, &str)> {
        self.documents.iter().flat_map(|document| document.signatures.keys().map(|id| (&document.role, id.as_str())))
    }

    /// Signs every document that names this key, and says of which roles they are.
    ///
    /// # Errors
    /// [`WriteError::NotASigner`] if there is none.
    pub fn sign(&mut self, key: &SigningKey) -> Result<Vec<Role>, WriteError> {
        let key_id = key_id(&key.verifying_key());
        let mut roles = Vec::new();
        for document in self.documents.iter_mut().filter(|document| document.public(&key_id).is_some()) {
            let signature = hex(&key.sign(&document.message).to_bytes());
            document.signatures.insert(key_id.clone(), signature);
            roles.push(document.role.clone());
        }
        if roles.is_empty() {
            let named = self.documents.iter().flat_map(|document| &document.authorities);
            let may_sign: BTreeSet<String> = named.flat_map(|(_, signers)| signers.keys.keys().cloned()).collect();
            return Err(WriteError::NotASigner { key_id, may_sign: may_sign.into_iter().collect() });
        }
        Ok(roles)
    }

    /// Signs with each key where it may; a key that may nowhere is passed over.
    pub fn sign_where_named(&mut self, keys: &[&SigningKey]) {
        for key in keys {
            let _ = self.sign(key);
        }
    }

    /// Takes in the signatures of a copy that somebody else signed.
    ///
    /// # Errors
    /// [`WriteError::OtherDraft`] if it proposes anything else.
    pub fn merge(&mut self, copy: &Draft) -> Result<(), WriteError> {
        let proposed = |draft: &Draft| -> Vec<(Role, Vec<u8>)> {
            draft.documents.iter().map(|document| (document.role.clone(), document.message.clone())).collect()
        };
        if self.base != copy.base || proposed(self) != proposed(copy) {
            return Err(WriteError::OtherDraft);
        }
        for (mine, theirs) in self.documents.iter_mut().zip(&copy.documents) {
            mine.signatures.extend(theirs.signatures.clone());
        }
        Ok(())
    }

    /// The draft as a file's bytes: JSON that people can read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let documents: Vec<Value> = self
            .documents
            .iter()
            .map(|document| json!({ "role": document.role.to_string(), "document": document.envelope() }))
            .collect();
        let mut bytes = serde_json::to_vec_pretty(&json!({
            "format": FORMAT,
            "repository": self.repository().to_string(),
            "documents": documents,
            "base": hex(self.base.pack()),
        }))
        .expect("values are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a draft back. All of it is checked: the pack it starts from, that its documents follow on it, and every
    /// signature.
    ///
    /// # Errors
    /// [`WriteError::Draft`], [`WriteError::Trust`] or [`WriteError::BadSignature`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WriteError> {
        let bad = |what: &str| WriteError::Draft(what.to_owned());
        if bytes.len() > MAX_DRAFT {
            return Err(bad("it is over 12 MiB"));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| bad(&format!("no JSON: {error}")))?;
        if value["format"] != FORMAT {
            return Err(bad("it does not say that its format is `burr draft 1`"));
        }
        let pack = value["base"].as_str().and_then(unhex).ok_or_else(|| bad("its base is not in hex"))?;
        let root = Pack::decode(&pack).map_err(TrustError::from)?.roots[0];
        let id = RepositoryId::of_root(root);
        if value["repository"] != id.to_string() {
            return Err(bad("its base is of another repository than it says"));
        }
        let base = verify(id, None, &pack)?;
        let mut documents = Vec::new();
        let mut signatures = Vec::new();
        for entry in value["documents"].as_array().ok_or_else(|| bad("it has no documents"))? {
            let role: Role = entry["role"].as_str().ok_or_else(|| bad("a document has no role"))?.parse()?;
            let signed = entry["document"]["signed"].as_object().ok_or_else(|| bad("a document says nothing"))?;
            let list = entry["document"]["signatures"].as_array();
            signatures.push(list.ok_or_else(|| bad("a document has no list of signatures"))?.clone());
            documents.push((role, signed.clone()));
        }
        let mut draft = Self::new(base, documents)?;
        for (document, signatures) in draft.documents.iter_mut().zip(&signatures) {
            for signature in signatures {
                let (id, sig) = (signature["keyid"].as_str(), signature["sig"].as_str());
                let (id, sig) = id.zip(sig).ok_or_else(|| bad("a signature lacks a field"))?;
                if document.signatures.contains_key(id) {
                    return Err(bad("a key signed twice"));
                }
                document.add(id, sig)?;
            }
        }
        Ok(draft)
    }

    /// The same proposal, judged by what a repository holds now.
    pub(super) fn rebased(&self, held: &Verified) -> Result<Self, WriteError> {
        if held.repository() != self.repository() {
            let words = format!("it is for repository {}, this is {}", self.repository(), held.repository());
            return Err(WriteError::Draft(words));
        }
        for document in &self.documents {
            if summary::predecessor(&self.base, &document.role) != summary::predecessor(held, &document.role) {
                return Err(WriteError::MovedOn(format!("{} has changed", document.role)));
            }
        }
        let documents = self.documents.iter().map(|document| (document.role.clone(), document.signed.clone()));
        let mut draft =
            Self::new(held.clone(), documents.collect()).map_err(|error| WriteError::MovedOn(error.to_string()))?;
        for (document, old) in draft.documents.iter_mut().zip(&self.documents) {
            for (id, signature) in &old.signatures {
                document.add(id, signature).map_err(|_| {
                    WriteError::MovedOn(format!("key {id}, which signed it, is no key of {} any more", old.role))
                })?;
            }
        }
        Ok(draft)
    }

    /// Its documents, signed.
    pub(super) fn into_documents(self) -> Signed {
        let app = summary::app(&self.base);
        let mut signed = Signed::default();
        for document in &self.documents {
            let bytes = canonical(&document.envelope());
            match &document.role {
                Role::Root => signed.root = Some(bytes),
                Role::Targets => signed.targets = Some(bytes),
                role => drop(signed.delegated.insert(role.document(&app), bytes)),
            }
        }
        signed
    }
}

/// Documents that take the places of those before; the root follows on its own.
#[derive(Debug, Default)]
pub(super) struct Signed {
    pub root: Option<Vec<u8>>,
    pub targets: Option<Vec<u8>>,
    /// By their names in metadata.
    pub delegated: BTreeMap<String, Vec<u8>>,
}
