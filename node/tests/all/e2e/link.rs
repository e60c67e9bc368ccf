//! A link of known speed between two nodes, which counts the bytes that cross it, or records them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes passed on at a time.
const PART: usize = 16 << 10;

/// A TCP relay with an address of its own, to wherever it is pointed.
pub(super) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// Bytes a second from the target to whoever dialled.
    rate: u64,
    carried: AtomicU64,
    /// The ends of all connections so far.
    ends: Mutex<Vec<TcpStream>>,
    /// All that crossed it, one entry a connection and way, if it records.
    record: Option<Mutex<Vec<Vec<u8>>>>,
    closed: AtomicBool,
}

impl Link {
    /// A link to `target` that brings at most `rate` bytes a second from there.
    pub(super) fn to(target: SocketAddr, rate: u64) -> Self {
        Self::new(target, rate, None)
    }

    /// A link to `target`, as fast as the machine, that records what crosses it, both ways.
    pub(super) fn recording(target: SocketAddr) -> Self {
        Self::new(target, u64::MAX, Some(Mutex::default()))
    }

    fn new(target: SocketAddr, rate: u64, record: Option<Mutex<Vec<Vec<u8>>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            rate,
            carried: AtomicU64::new(0),
            ends: Mutex::default(),
            record,
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.closed.load(Ordering::Relaxed) {
                    return;
                }
                let target = *accepting.target.lock().expect("no thread panics with it");
                let Ok(far) = TcpStream::connect(target) else { continue };
                accepting.remember([&near, &far]);
                for (from, to, down) in [(&near, &far, false), (&far, &near, true)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = Arc::clone(&accepting);
                    thread::spawn(move || shared.pass(from, to, down));
                }
            }
        });
        Self { address, shared }
    }

    /// Where to dial it: TCP alone.
    pub(super) fn address(&self) -> String {
        format!("/ip4/{}/tcp/{}", self.address.ip(), self.address.port())
    }

    /// New connections go there.
    pub(super) fn point(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("no thread panics with it") = target;
    }

    /// Cuts all connections over it; new ones may be made at once.
    pub(super) fn cut(&self) {
        for end in self.shared.ends.lock().expect("no thread panics with it").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Bytes that came from the target so far.
    pub(super) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }

    /// What crossed it so far, one entry a connection and way.
    pub(super) fn recorded(&self) -> Vec<Vec<u8>> {
        let record = self.shared.record.as_ref().expect("a link that records");
        record.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn remember(&self, ends: [&TcpStream; 2]) {
        let ends = ends.into_iter().filter_map(|end| end.try_clone().ok());
        self.ends.lock().expect("no thread panics with it").extend(ends);
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, down: bool) {
        let mut part = [0; PART];
        let mut due = Instant::now();
        let record = self.record.as_ref().map(|record| {
            let mut record = record.lock().expect("no thread panics with it");
            record.push(Vec::new());
            record.len() - 1
        });
        while let Ok(read @ 1..) = from.read(&mut part) {
            if down {
                due = due.max(Instant::now().checked_sub(Duration::from_millis(5)).unwrap_or(due));
                due += Duration::from_nanos(read as u64 * 1_000_000_000 / self.rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if let (Some(record), Some(at)) = (&self.record, record) {
                record.lock().expect("no thread panics with it")[at].extend_from_slice(&part[..read]);
            }
            if to.write_all(&part[..read]).is_err() {
                break;
            }
            if down {
                self.carried.fetch_add(read as u64, Ordering::Relaxed);
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
