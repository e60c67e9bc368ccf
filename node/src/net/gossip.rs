//! Gossip: announcements pushed from node to node, each judged before it is passed on.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use burr_protocol::{
    RepositoryId,
    action::{GossipId, Verdict},
    config::MAX_FOLLOWS,
    wire::MAX_ANNOUNCEMENT,
};
use libp2p::{
    PeerId,
    gossipsub::{
        self, AllowAllSubscriptionFilter, ConfigBuilder, DataTransform, IdentTopic, IdentityTransform,
        MaxCountSubscriptionFilter, MessageAcceptance, MessageAuthenticity, MessageId, RawMessage, TopicHash,
        ValidationMode,
    },
};

/// Bytes that gossip's own envelope takes at most around an announcement.
const ENVELOPE: usize = 1024;
/// Bytes that are read of a stream at a time. gossipsub holds its limit against all that was read and not taken apart yet,
/// not against one message: without room for this, a burst of short announcements ends the stream they come on.
const READ: usize = 8 << 10;
/// Announcements that wait for a verdict at most; the oldest is dropped first.
const MAX_WAITING: usize = 256;
/// How long an announcement may wait for its verdict. Below the time that gossip remembers messages.
const PATIENCE: Duration = Duration::from_secs(10);
/// The mesh is mended this often. Rarely, for idle devices; joining and leaving act at once without it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// An announcement that was seen is not taken again for this time.
const REMEMBER: Duration = Duration::from_mins(2);

pub(crate) type Behaviour = gossipsub::Behaviour<Counted, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// Announcements that came since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// All, those that were here already as well: gossipsub itself counts these nowhere.
    received: AtomicU64,
    /// Those that were not.
    new: AtomicU64,
}

impl Counts {
    /// One came that was not here.
    pub(super) fn note_new(&self) {
        self.new.fetch_add(1, Ordering::Relaxed);
    }

    /// All that came, and those that were new.
    pub(super) fn get(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.new.load(Ordering::Relaxed))
    }
}

/// What gossipsub hands every message that comes: it is counted, and not changed.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Counts>);

impl DataTransform for Counted {
    fn inbound_transform(&self, message: RawMessage) -> io::Result<gossipsub::Message> {
        self.0.received.fetch_add(1, Ordering::Relaxed);
        IdentityTransform.inbound_transform(message)
    }

    fn outbound_transform(&self, topic: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        IdentityTransform.outbound_transform(topic, data)
    }
}

/// The behaviour, which counts what comes. Messages have no author: an announcement is signed by its publisher, and named
/// by its content, so the same news from many nodes is one message.
pub(crate) fn behaviour(counts: Arc<Counts>) -> Behaviour {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| {
            MessageId::new(&burr_protocol::Hash::of(&[message.topic.as_str().as_bytes(), &message.data].concat()).0)
        })
        .max_transmit_size(MAX_ANNOUNCEMENT + ENVELOPE + READ)
        .heartbeat_interval(HEARTBEAT)
        .duplicate_cache_time(REMEMBER)
        .flood_publish(true)
        .mesh_outbound_min(1)
        .mesh_n_low(3)
        .mesh_n(5)
        .mesh_n_high(8)
        .build()
        .expect("the numbers above fit together");
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_FOLLOWS,
        max_subscriptions_per_request: MAX_FOLLOWS,
    };
    let anonymous = MessageAuthenticity::Anonymous;
    gossipsub::Behaviour::new_with_subscription_filter_and_transform(anonymous, config, filter, Counted(counts))
        .expect("anonymous validation fits anonymous messages")
}

/// The topic of a repository.
pub(crate) fn topic(repository: RepositoryId) -> IdentTopic {
    IdentTopic::new(format!("/burr/1/{repository}"))
}

/// Announcements that wait for a verdict.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    messages: BTreeMap<GossipId, Message>,
}

#[derive(Debug)]
struct Message {
    id: MessageId,
    from: PeerId,
    since: Instant,
}

impl Waiting {
    /// Notes a message, and drops those that waited too long.
    pub(super) fn add(&mut self, gossip: &mut Behaviour, id: MessageId, from: PeerId) -> GossipId {
        while let Some(oldest) = self.messages.first_entry()
            && (oldest.get().since.elapsed() > PATIENCE || self.messages.len() >= MAX_WAITING)
        {
            let (_, message) = self.messages.pop_first().expect("there is an oldest");
            gossip.report_message_validation_result(&message.id, &message.from, MessageAcceptance::Ignore);
        }
        let name = GossipId(self.next);
        self.next += 1;
        self.messages.insert(name, Message { id, from, since: Instant::now() });
        name
    }

    /// Passes a message on, or drops it. Too late is no error: the message is gone then.
    pub(super) fn judge(&mut self, gossip: &mut Behaviour, name: GossipId, verdict: Verdict) {
        let Some(message) = self.messages.remove(&name) else { return };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        gossip.report_message_validation_result(&message.id, &message.from, acceptance);
    }
}
