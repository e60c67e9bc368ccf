//! What devices behind this node's gateway tell it: checked, written down, and only then answered.

use super::{After, Agent, MAX_PENDING, reports::mark};
use crate::{
    RepositoryId,
    action::{Action, Ticket},
    gateway::{Declined, Ended, MAX_OUTCOMES, Report, Told, Via, is_device},
    label,
    receipt::{Receipt, SignedReceipt},
    record::Record,
    release::Release,
};

impl Agent {
    /// A device behind the gateway reports. It is answered when what it says is on disk.
    pub(super) fn reported(&mut self, ticket: Ticket, report: Report, actions: &mut Vec<Action>) {
        match self.records_of(ticket, report) {
            Ok((records, after)) if !records.is_empty() => self.persist(records, after, actions),
            Ok(_) => actions.push(Action::Answer { ticket, result: Ok(()) }),
            Err(why) => actions.push(Action::Answer { ticket, result: Err(why) }),
        }
    }

    /// What a report is written down as, and what follows.
    fn records_of(&mut self, ticket: Ticket, report: Report) -> Result<(Vec<Record>, After), Declined> {
        let Report { app, device, what } = report;
        let follow = self.config.follows.iter().find(|follow| follow.app == app).ok_or(Declined::UnknownApp)?;
        let repository = follow.repository;
        if !is_device(&device) {
            return Err(Declined::BadDevice);
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Declined::Busy);
        }
        let (mut records, mut kept, mut assigned) = (Vec::new(), Vec::new(), None);
        match what {
            Told::Channel(channel) => {
                if let Some(channel) = &channel {
                    let verified = self.catalog.verified(repository).ok_or(Declined::UnknownChannel)?;
                    if !verified.channels().contains(&(app.clone(), channel.clone())) {
                        return Err(Declined::UnknownChannel);
                    }
                    if !self.assigned.has_room(&app, &device) {
                        return Err(Declined::Busy);
                    }
                }
                if self.assigned.of(&app, &device) != channel.as_deref() {
                    records.push(Record::Assigned {
                        app: app.clone(),
                        device: device.clone(),
                        channel: channel.clone(),
                    });
                    assigned = Some((app, device, channel));
                }
            }
            Told::Outcomes(ended) => {
                let via = Via { gateway: self.signer.node(), device };
                let mut before = self.receipts.newest(repository, via.name()).and_then(SignedReceipt::peek);
                for ended in ended.into_iter().take(MAX_OUTCOMES) {
                    let Some(receipt) = self.receipt_via(repository, &app, &via, ended) else { continue };
                    // What is tried again and fails again is told once.
                    let same = |before: &Receipt| {
                        (before.seq, &before.channel) == (receipt.seq, &receipt.channel)
                            && std::mem::discriminant(&before.outcome) == std::mem::discriminant(&receipt.outcome)
                    };
                    if before.as_ref().is_some_and(same) {
                        continue;
                    }
                    before = Some(receipt.clone());
                    self.last_via = receipt.counter;
                    let signed = self.signer.sign(&receipt);
                    records.push(Record::Receipt { mark: mark(&receipt), receipt: Some(signed.clone()) });
                    kept.push((receipt, signed));
                }
            }
        }
        Ok((records, After::Report { ticket, kept, assigned }))
    }

    /// The receipt of an outcome; none for a version that no release here has.
    fn receipt_via(&self, repository: RepositoryId, app: &str, via: &Via, ended: Ended) -> Option<Receipt> {
        let verified = self.catalog.verified(repository)?;
        let has = |release: &&Release| release.app == app && release.version == ended.version;
        let on_channel = verified.releases().filter(has).find(|release| release.channel == ended.channel);
        let release = on_channel.or_else(|| verified.releases().find(has))?;
        // Numbers of devices behind a gateway only go up, with gaps: a gateway forgets devices, collectors do not.
        let clock = self.now.wall.and_then(|wall| u64::try_from(wall.0).ok()).unwrap_or_default().saturating_mul(1000);
        Some(Receipt {
            repository,
            device: via.name(),
            counter: (self.last_via + 1).max(clock),
            app: app.to_owned(),
            channel: release.channel.clone(),
            version: release.version.clone(),
            seq: release.seq,
            bundle: release.bundle,
            active: ended.active.filter(|active| label::check_version(active).is_ok()),
            outcome: ended.outcome.cut(),
            sources: Vec::new(),
            took_ms: 0,
            said: String::new(),
            at: self.now.wall,
            issued: verified.issued(),
            attributes: None,
            via: Some(via.clone()),
            member: None,
        })
    }

    /// A report is on disk.
    pub(super) fn report_stored(
        &mut self,
        ticket: Ticket,
        kept: Vec<(Receipt, SignedReceipt)>,
        assigned: Option<(String, String, Option<String>)>,
        actions: &mut Vec<Action>,
    ) {
        if let Some((app, device, channel)) = assigned {
            self.assigned.set(&app, &device, channel);
        }
        let told = !kept.is_empty();
        for (receipt, signed) in kept {
            self.keep_receipt(&receipt, signed, actions);
        }
        actions.push(Action::Answer { ticket, result: Ok(()) });
        if told {
            self.pass_on(actions);
        }
    }
}
