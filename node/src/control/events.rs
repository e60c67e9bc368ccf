//! Facts for those who follow them over HTTP, as server-sent events.
//!
//! Each fact has a number, and the newest are kept for a while: a client that comes back with the `Last-Event-ID` it saw
//! misses nothing, or is told how much. A client that reads slowly is told the same; it holds up nobody.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use burr_protocol::fact::Fact;
use hyper::body::Bytes;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::timeout,
};

/// Facts that are kept for those who come back, and that a client may lag behind.
const KEPT: usize = 256;
/// Clients at a time.
const MAX_CLIENTS: usize = 32;
/// Events on their way to a client's connection.
const QUEUE: usize = 8;
/// How often something is said, if only that there is nothing to say: who listens knows that the node lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A fact with its number.
#[derive(Debug, Clone)]
struct Event {
    number: u64,
    json: Arc<str>,
}

/// The facts of one node.
#[derive(Debug, Clone)]
pub(super) struct Events {
    /// Tells this process's numbers from those of one before.
    run: u64,
    kept: Arc<Mutex<VecDeque<Event>>>,
    news: broadcast::Sender<Event>,
    places: Arc<Semaphore>,
}

impl Events {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            run: u64::try_from(since.as_millis()).unwrap_or_default(),
            kept: Arc::default(),
            news: broadcast::channel(KEPT).0,
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
        }
    }

    /// Takes in a node's facts for as long as it runs.
    pub(super) async fn follow(self, mut facts: broadcast::Receiver<Fact>) {
        let mut number = 0;
        loop {
            match facts.recv().await {
                Ok(fact) => {
                    number += 1;
                    let json = serde_json::to_string(&fact).expect("facts are JSON").into();
                    self.add(Event { number, json });
                }
                // Nobody hears of these; the numbers say that they are missing.
                Err(RecvError::Lagged(missed)) => number += missed,
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn add(&self, event: Event) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that whoever comes now gets it once. Nobody may be listening.
        let _ = self.news.send(event);
    }

    /// What a client is told from now on, or from after the event that it saw last; `None` if there are too many clients.
    pub(super) fn listen(&self, last: Option<&str>) -> Option<mpsc::Receiver<io::Result<Bytes>>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = kept.back().map_or(0, |event| event.number);
        let seen = match last {
            None => newest,
            // What a process before this one numbered says nothing here: all that there is, is new.
            Some(last) => self.number_of(last).unwrap_or(0),
        };
        let backlog = kept.iter().filter(|event| event.number > seen).cloned().collect();
        let client = Client { run: self.run, seen, sender, _place: place };
        tokio::spawn(client.tell(backlog, self.news.subscribe()));
        Some(receiver)
    }

    fn number_of(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('.')?;
        (run.parse() == Ok(self.run)).then(|| number.parse().ok())?
    }
}

struct Client {
    run: u64,
    seen: u64,
    sender: mpsc::Sender<io::Result<Bytes>>,
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// Tells until the client goes, or the node.
    async fn tell(mut self, backlog: Vec<Event>, mut news: broadcast::Receiver<Event>) {
        let mut going = self.say(": facts from here on\n\n".to_owned()).await;
        for event in backlog {
            going = going && self.event(event).await;
        }
        while going {
            let heard = tokio::select! {
                heard = timeout(HEARTBEAT, news.recv()) => heard,
                () = self.sender.closed() => return,
            };
            going = match heard {
                Ok(Ok(event)) => self.event(event).await,
                // The gap shows in the next one's number.
                Ok(Err(RecvError::Lagged(_))) => true,
                Ok(Err(RecvError::Closed)) => false,
                Err(_) => self.say(":\n\n".to_owned()).await,
            };
        }
    }

    async fn event(&mut self, Event { number, json }: Event) -> bool {
        let missed = number.saturating_sub(self.seen + 1);
        self.seen = number;
        let gap = if missed > 0 { format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n") } else { String::new() };
        self.say(format!("{gap}id: {}.{number}\ndata: {json}\n\n", self.run)).await
    }

    async fn say(&self, text: String) -> bool {
        self.sender.send(Ok(text.into())).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            events.add(Event { number, json: format!("{{\"n\":{number}}}").into() });
        }
    }

    async fn next(client: &mut mpsc::Receiver<io::Result<Bytes>>) -> String {
        String::from_utf8(client.recv().await.unwrap().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn who_comes_back_misses_nothing_or_is_told_how_much() {
        let events = Events::new();
        let run = events.run;
        tell(&events, 1..=3);
        let mut client = events.listen(Some(&format!("{run}.2"))).unwrap();
        assert!(next(&mut client).await.starts_with(':'));
        assert_eq!(next(&mut client).await, format!("id: {run}.3\ndata: {{\"n\":3}}\n\n"));
        tell(&events, 4..=4);
        assert!(next(&mut client).await.starts_with(&format!("id: {run}.4\n")));

        // Another process's number, or nonsense: all that there is.
        for last in [format!("{}.3", run - 1), "x".to_owned()] {
            let mut client = events.listen(Some(&last)).unwrap();
            next(&mut client).await;
            assert!(next(&mut client).await.starts_with(&format!("id: {run}.1\n")));
        }

        let kept = KEPT as u64;
        tell(&events, 5..=kept + 10);
        let mut client = events.listen(Some(&format!("{run}.4"))).unwrap();
        next(&mut client).await;
        let first = next(&mut client).await;
        assert!(first.starts_with(&format!("event: missed\ndata: {{\"missed\":6}}\n\nid: {run}.11\n")), "{first}");
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_holds_up_nobody_and_learns_what_it_missed() {
        let events = Events::new();
        let mut slow = events.listen(None).unwrap();
        next(&mut slow).await;
        let told = KEPT as u64 * 10;
        tell(&events, 1..=told);
        let mut heard = String::new();
        while !heard.contains(&format!(".{told}\n")) {
            heard += &next(&mut slow).await;
        }
        assert!(heard.contains("event: missed"), "{heard}");
        assert!(heard.matches("data: {\"n\"").count() <= KEPT + QUEUE + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_hears_nothing_hears_that_the_node_lives() {
        let events = Events::new();
        let mut client = events.listen(None).unwrap();
        next(&mut client).await;
        for _ in 0..3 {
            let since = tokio::time::Instant::now();
            assert_eq!(next(&mut client).await, ":\n\n", "a comment, which no client takes for an event");
            assert_eq!(since.elapsed(), HEARTBEAT);
        }
        // What happens comes at once, and the next sign of life so long after it.
        tokio::time::sleep(HEARTBEAT / 2).await;
        let since = tokio::time::Instant::now();
        tell(&events, 1..=1);
        assert!(next(&mut client).await.starts_with("id: "));
        assert_eq!(since.elapsed(), Duration::ZERO);
        assert_eq!(next(&mut client).await, ":\n\n");
        assert_eq!(since.elapsed(), HEARTBEAT);
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_clients_and_no_more() {
        let events = Events::new();
        let clients: Vec<_> = (0..MAX_CLIENTS).map(|_| events.listen(None).unwrap()).collect();
        assert!(events.listen(None).is_none());
        drop(clients);
        while events.listen(None).is_none() {
            tokio::task::yield_now().await;
        }
    }
}
