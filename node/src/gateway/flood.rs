//! A bound on what one address may ask: a bucket of tokens for each, refilled at a rate.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::http::server::network;

/// Addresses that are remembered; beyond it, new ones share one bucket until others are full again.
const MAX_ADDRESSES: usize = 1 << 16;
/// Once there are so many, those that are full again go this often: it takes a look at each.
const SWEEP: Duration = Duration::from_secs(1);
/// Seconds' worth of requests that may come at once.
const BURST: f64 = 10.0;

/// The buckets.
#[derive(Debug)]
pub(super) struct Flood {
    rate: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    of: HashMap<IpAddr, Bucket>,
    /// When those that were full went last.
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
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
        let full = self.rate * BURST;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = network(address);
        if buckets.of.len() >= MAX_ADDRESSES && !buckets.of.contains_key(&address) {
            if buckets.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
                let gathered = |bucket: &Bucket| now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
                buckets.of.retain(|_, bucket| bucket.tokens + gathered(bucket) < full);
                buckets.swept = Some(now);
            }
            if buckets.of.len() >= MAX_ADDRESSES {
                address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let bucket = buckets.of.entry(address).or_insert(Bucket { tokens: full, at: now });
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
        assert!(flood.buckets.lock().unwrap().of.len() <= MAX_ADDRESSES + 1);
        // Looking at all of them again and again would be what a flood wants.
        assert_eq!(flood.buckets.lock().unwrap().swept, Some(now));
        // A minute later the buckets are full again, and there is room.
        assert_eq!(flood.take(at(9, 9), now + Duration::from_secs(60)), Ok(()));
        assert!(flood.buckets.lock().unwrap().of.len() < 10);
    }
}
