//! The writer of records: a thread of its own, since a write waits for the disk. It keeps the order in which it is asked;
//! what has gathered while it wrote is written in one go.

use std::{iter, sync::mpsc as blocking, thread};

use burr_protocol::{
    action::{Input, Token},
    record::Record,
};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Kind},
    store::records::Records,
};

/// The thread's near end.
pub(super) struct Writer {
    /// The agent bounds what waits.
    writes: blocking::Sender<(Token, Vec<Record>)>,
    reports: mpsc::UnboundedReceiver<Input>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the system gives none.
    pub(super) fn start(mut records: Records) -> Result<Self, Error> {
        let (writes, waiting) = blocking::channel::<(Token, Vec<Record>)>();
        let (report, reports) = mpsc::unbounded_channel();
        let work = move || {
            while let Ok(first) = waiting.recv() {
                let batch: Vec<_> = iter::once(first).chain(waiting.try_iter()).collect();
                let all: Vec<Record> = batch.iter().flat_map(|(_, records)| records.iter().cloned()).collect();
                let written = records.write(&all);
                for (token, _) in batch {
                    // Fails only when the node has ended; what was asked for is written all the same.
                    let _ = report.send(match &written {
                        Ok(()) => Input::Stored(token),
                        Err(why) => Input::StoreFailed { token, why: why.clone() },
                    });
                }
            }
            // Closed before the reports end.
            drop(records);
        };
        thread::Builder::new()
            .name("burr-records".to_owned())
            .spawn(work)
            .map_err(|error| Error::new(Kind::Storage, "can't start the writer of records").with_source(error))?;
        Ok(Self { writes, reports })
    }

    /// Writes records; [`Writer::report`] says when they are durable.
    pub(super) fn write(&self, token: Token, records: Vec<Record>) {
        // A thread that is gone shows where its reports are awaited.
        let _ = self.writes.send((token, records));
    }

    /// What became of a write, or `None` if the thread died.
    pub(super) async fn report(&mut self) -> Option<Input> {
        self.reports.recv().await
    }

    /// Waits until all is written and the database is closed.
    pub(super) async fn end(mut self) {
        drop(self.writes);
        while self.reports.recv().await.is_some() {}
    }
}
