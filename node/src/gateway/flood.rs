//! A bound on what one address may ask: a bucket of tokens for each, refilled at a rate.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::http::server::network;

/// Addresses that are remembered of each span of [`BURST`]; beyond it, new ones share one bucket until the span is over.
const MAX_ADDRESSES: usize = 1 << 15;
/// Seconds' worth of requests that may come at once: a bucket is full again after that long.
const BURST: Duration = Duration::from_secs(10);

/// The buckets.
#[derive(Debug)]
pub(super) struct Flood {
    rate: f64,
    buckets: Mutex<Buckets>,
}

/// Those that were used in this span of time, and in the one before. What was used in neither is full, and needs no
/// memory: so nothing is ever looked for among all of them.
#[derive(Debug, Default)]
struct Buckets {
    recent: HashMap<IpAddr, Bucket>,
    older: HashMap<IpAddr, Bucket>,
    /// When this span began.
    since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Buckets {
    /// Begins another span when it is time.
    fn turn(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        if lasted >= BURST {
            self.older = std::mem::take(&mut self.recent);
            self.since = Some(now);
        }
        if lasted >= 2 * BURST {
            self.older.clear();
        }
    }

    /// The bucket of an address, full if it is new.
    fn of(&mut self, address: IpAddr, full: f64, now: Instant) -> &mut Bucket {
        let has_room = self.recent.len() < MAX_ADDRESSES || self.recent.contains_key(&address);
        let address = if has_room { address } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let before = self.older.remove(&address);
        self.recent.entry(address).or_insert(before.unwrap_or(Bucket { tokens: full, at: now }))
    }
}

impl Flood {
    /// Lets each address make this many requests a second.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), buckets: Mutex::default() }
    }

    /// Takes a request of an address in.
    ///
    /// # Errors
    /// The seconds after which the address may ask again.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        let full = self.rate * BURST.as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.turn(now);
        let bucket = buckets.of(network(address), full, now);
        let refill = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        bucket.tokens = (bucket.tokens + refill).min(full);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            // Long enough to be worth waiting: a tenth of the bucket.
            return Err(1);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_too_much_waits_and_others_do_not() {
        let flood = Flood::new(2);
        let (one, other, now) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), Instant::now());
        assert_eq!((0..20).filter(|_| flood.take(one, now).is_ok()).count(), 20);
        assert_eq!(flood.take(one, now), Err(1));
        assert_eq!(flood.take(other, now), Ok(()));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| flood.take(one, later).is_ok()).count(), 2);
    }

    #[test]
    fn a_host_with_many_ipv6_addresses_is_one_and_memory_is_bounded() {
        let flood = Flood::new(1);
        let now = Instant::now();
        let at = |high: u64, low: u64| IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into());
        assert_eq!((0..100).filter(|low| flood.take(at(7, *low), now).is_ok()).count(), 10);
        assert!(flood.take("::ffff:10.0.0.1".parse().unwrap(), now).is_ok());
        for high in 0..100_000 {
            let _ = flood.take(at(1 << 32 | high, 0), now);
        }
        let held = |flood: &Flood| {
            let buckets = flood.buckets.lock().unwrap();
            (buckets.recent.len(), buckets.older.len())
        };
        assert_eq!(held(&flood), (MAX_ADDRESSES + 1, 0));
        // Who asked before the flood is remembered through it; those that come in it share one bucket.
        assert_eq!(flood.take(at(7, 0), now), Err(1));
        assert_eq!(flood.take(at(1 << 33, 0), now), Err(1));
        let next = now + BURST;
        assert_eq!(flood.take(at(1 << 33, 0), next), Ok(()));
        assert_eq!(held(&flood), (1, MAX_ADDRESSES + 1));
        // A minute later all buckets are full again.
        assert_eq!(flood.take(at(9, 9), now + Duration::from_secs(60)), Ok(()));
        assert_eq!(held(&flood), (1, 0));
    }

    #[test]
    fn a_bucket_is_emptied_once_whatever_span_it_is_asked_in() {
        let flood = Flood::new(1);
        let (one, begun) = ("10.0.0.1".parse().unwrap(), Instant::now());
        assert_eq!(flood.take("10.0.0.2".parse().unwrap(), begun), Ok(()));
        let almost = begun + Duration::from_millis(9_999);
        assert_eq!((0..20).filter(|_| flood.take(one, almost).is_ok()).count(), 10);
        // The next span begins, and brings no more than the time that passed does.
        let next = begun + BURST;
        assert_eq!((0..20).filter(|_| flood.take(one, next).is_ok()).count(), 0);
        assert_eq!((0..20).filter(|_| flood.take(one, next + Duration::from_secs(3)).is_ok()).count(), 3);
    }
}
