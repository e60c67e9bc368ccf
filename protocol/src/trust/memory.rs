//! What was verified before. A driver of many agents lends one memory to all of them, so that the same bytes, held
//! against the same metadata, are verified once: [`verify`] has no other input, so its answer is the same again. So it is
//! with receipts, of which those that are signed here need no look at all. What many agents have alike they hold once by it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Announced, TrustError, Verified, check_announcement, verify};
use crate::{
    Hash, RepositoryId, Shared,
    peers::Address,
    receipt::{Receipt, ReceiptError, SignedReceipt},
    record::Installed,
};

/// Which repository, against which held pack, and which offered pack.
type Question = (RepositoryId, Option<Hash>, Hash);

/// Held against which pack, which root version, and which signed timestamp.
type Rumour = (Hash, u64, Hash);

/// Answers of [`verify`] and [`check_announcement`], up to a bound; when that is reached, all are forgotten. The default
/// remembers nothing, which suits a driver of one agent, and is a pointer.
#[derive(Debug, Default)]
pub struct Memory(Option<Box<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    bound: usize,
    answers: BTreeMap<Question, Result<Verified, TrustError>>,
    rumours: BTreeMap<Rumour, Result<Announced, TrustError>>,
    /// Receipts whose signatures hold.
    receipts: BTreeSet<Hash>,
    /// What is installed somewhere, by its bundle.
    installed: BTreeMap<Hash, Shared<Installed>>,
    /// Names of apps, and addresses.
    names: BTreeMap<String, Shared<String>>,
    addresses: BTreeMap<Address, Shared<Address>>,
}

impl Memory {
    /// A memory for so many answers.
    #[must_use]
    pub fn of(bound: usize) -> Self {
        Self(Some(Box::new(Remembered { bound, ..Remembered::default() })))
    }

    /// As [`verify`].
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(
        &mut self,
        repository: RepositoryId,
        held: Option<&Verified>,
        pack: &[u8],
    ) -> Result<Verified, TrustError> {
        let Some(Remembered { bound, answers, .. }) = self.0.as_deref_mut() else {
            return verify(repository, held, pack);
        };
        let question = (repository, held.map(Verified::pack_hash), Hash::of(pack));
        remembered(answers, *bound, question, || verify(repository, held, pack))
    }

    /// As [`check_announcement`].
    ///
    /// # Errors
    /// As [`check_announcement`].
    pub fn check_announcement(
        &mut self,
        held: &Verified,
        root_version: u64,
        timestamp: &[u8],
    ) -> Result<Announced, TrustError> {
        let Some(Remembered { bound, rumours, .. }) = self.0.as_deref_mut() else {
            return check_announcement(held, root_version, timestamp);
        };
        let question = (held.pack_hash(), root_version, Hash::of(timestamp));
        remembered(rumours, *bound, question, || check_announcement(held, root_version, timestamp))
    }

    /// As [`SignedReceipt::verify`].
    ///
    /// # Errors
    /// As [`SignedReceipt::verify`].
    pub fn verify_receipt(&mut self, signed: &SignedReceipt) -> Result<Receipt, ReceiptError> {
        let receipt = signed.read()?;
        self.check_receipt(signed, &receipt)?;
        Ok(receipt)
    }

    /// The signature alone, of one that reads as this receipt.
    pub(crate) fn check_receipt(&mut self, signed: &SignedReceipt, receipt: &Receipt) -> Result<(), ReceiptError> {
        if self.0.as_ref().is_none_or(|remembered| !remembered.receipts.contains(&name(signed))) {
            signed.check(receipt)?;
            self.holds(signed);
        }
        Ok(())
    }

    /// Takes what another agent has in the place of the same.
    pub(crate) fn share(&mut self, installed: &mut Shared<Installed>) {
        let Some(Remembered { bound, installed: known, .. }) = self.0.as_deref_mut() else { return };
        let held = remembered(known, *bound, installed.bundle, || installed.clone());
        if held == *installed {
            *installed = held;
        }
    }

    /// A name of an app, as other agents have it.
    pub(crate) fn name(&mut self, name: &str) -> Shared<String> {
        let Some(Remembered { bound, names, .. }) = self.0.as_deref_mut() else { return name.to_owned().into() };
        remembered(names, *bound, name.to_owned(), || name.to_owned().into())
    }

    /// An address, as other agents have it.
    pub(crate) fn address(&mut self, address: Address) -> Shared<Address> {
        let Some(Remembered { bound, addresses, .. }) = self.0.as_deref_mut() else { return address.into() };
        remembered(addresses, *bound, address.clone(), || address.into())
    }

    /// The signature of this receipt holds: it was made here.
    pub(crate) fn holds(&mut self, signed: &SignedReceipt) {
        if let Some(Remembered { bound, receipts, .. }) = self.0.as_deref_mut() {
            if receipts.len() >= *bound {
                receipts.clear();
            }
            receipts.insert(name(signed));
        }
    }
}

fn name(signed: &SignedReceipt) -> Hash {
    Hash::of(&[signed.bytes(), &signed.signature()].concat())
}

/// The answer to a question, found among at most `bound` earlier ones or worked out now.
fn remembered<Q: Ord, A: Clone>(
    answers: &mut BTreeMap<Q, A>,
    bound: usize,
    question: Q,
    answer: impl FnOnce() -> A,
) -> A {
    if let Some(known) = answers.get(&question) {
        return known.clone();
    }
    let answer = answer();
    if answers.len() >= bound {
        answers.clear();
    }
    answers.insert(question, answer.clone());
    answer
}
