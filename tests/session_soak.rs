//! A thousand sessions at once for a while: turns, forks and rollbacks mixed. When all are gone, the
//! process has no more memory, file descriptors and threads than before. `SOAK_SECONDS` sets for how long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentkernel::{Ending, Image, Session};
use agentkernel_tests::{kernel, limits, value};

const SESSIONS: usize = 1000;
const THREADS: u64 = 2;

/// What the process has.
#[derive(Clone, Copy, Debug)]
struct Has {
    memory_bytes: u64,
    descriptors: usize,
    threads: u64,
}

impl Has {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let of = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        // Pages of images belong to the page cache.
        let memory_bytes = of("RssAnon:") * 1024;
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        Has { memory_bytes, descriptors, threads: of("Threads:") }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

struct Kept {
    session: Session,
    count: u64,
    /// The count before the last turn, if there is a way back.
    before: Option<u64>,
}

fn start(image: &Image) -> Kept {
    let session = kernel().session().limits(limits()).image(image).start().unwrap();
    Kept { session, count: 0, before: None }
}

/// Acts on one of the sessions after another, in an order of its own; gives how often.
fn work(sessions: &mut [Kept], image: &Image, seed: u64, until: Instant) -> u64 {
    let mut random = Random(seed);
    let mut rounds = 0;
    while Instant::now() < until {
        rounds += 1;
        let which = random.below(sessions.len() as u64) as usize;
        let kept = &mut sessions[which];
        match random.below(20) {
            0..10 => {
                let outcome = kept.session.run_blocking("n += 1; rows.append(n); n").unwrap();
                kept.before = Some(kept.count);
                kept.count += 1;
                assert_eq!(value(&outcome).repr, kept.count.to_string());
            }
            10..13 => {
                let session = kept.session.fork().unwrap();
                *kept = Kept { session, count: kept.count, before: None };
            }
            13..15 => match kept.before.take() {
                Some(before) => {
                    kept.session.rollback().unwrap();
                    kept.count = before;
                }
                None => drop(kept.session.rollback()),
            },
            15 => {
                let outcome = kept.session.run_blocking("n = -1; import os; os.abort()").unwrap();
                assert!(matches!(outcome.ending, Ending::Trapped(_)) && outcome.rolled_back);
                kept.before = None;
            }
            16 => {
                let code = "open('f', 'a').write('x' * 100); data = bytearray(2 << 20); len(os.listdir())";
                let outcome = kept.session.run_blocking(code).unwrap();
                assert_eq!(value(&outcome).repr, "1");
                kept.before = Some(kept.count);
            }
            17 => {
                let image = kept.session.snapshot().unwrap();
                let session = kernel().session().limits(limits()).image(&image).start().unwrap();
                *kept = Kept { session, count: kept.count, before: None };
            }
            18 => {
                kept.session.canceller().cancel();
                let outcome = kept.session.run_blocking("n = -1").unwrap();
                assert_eq!(outcome.ending, Ending::Cancelled);
                kept.before = None;
            }
            _ => *kept = start(image),
        }
    }
    for kept in sessions {
        assert_eq!(value(&kept.session.run_blocking("n").unwrap()).repr, kept.count.to_string());
    }
    rounds
}

fn soak(image: &Image, seed: u64, length: Duration) -> u64 {
    let until = Instant::now() + length;
    std::thread::scope(|scope| {
        let worker = |thread: u64| {
            move || {
                let mut sessions: Vec<Kept> =
                    (0..SESSIONS / THREADS as usize).map(|_| start(image)).collect();
                // Starting them may have taken all of the time on a slow machine.
                let until = until.max(Instant::now() + length / 4);
                work(&mut sessions, image, seed * THREADS + thread, until)
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(worker(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Waits for what ends in the background.
fn settled(limit: impl Fn(&Has) -> bool) -> Has {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let has = Has::now();
        if limit(&has) || Instant::now() > until {
            return has;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is measured is the process's: one test at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A large state is there, is kept once, and for no moment more than that.
#[test]
fn a_state_is_kept_once() {
    if !kernel().info().host_owned_memory {
        return eprintln!("skipped: this kernel does not own the guest's memory");
    }
    let _alone = alone();
    const DATA: u64 = 160 << 20;
    let mut session = kernel().session().limits(limits()).start().unwrap();
    session.run_blocking("data = bytearray(0)").unwrap();
    let before = Has::now().memory_bytes;
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(Has::now().memory_bytes, Ordering::Relaxed);
            }
        });
        let made = format!("data = bytearray(b'x') * {DATA}; len(data)");
        let changed = "data[::4096] = data[1::4096]; len(data)";
        let outcomes = [&made, changed, changed, changed].map(|code| session.run_blocking(code));
        done.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            assert_eq!(value(&outcome.unwrap()).repr, DATA.to_string());
        }
    });
    let most = most.into_inner();
    assert!(most < before + 2 * DATA + (60 << 20), "{most} bytes at most, {before} before");
    let kept = Has::now().memory_bytes;
    assert!(kept < before + 2 * DATA + (60 << 20), "{kept} bytes, {before} before");
}

#[test]
fn a_thousand_sessions_leave_nothing_behind() {
    if !kernel().info().host_owned_memory {
        return eprintln!("skipped: this kernel does not own the guest's memory");
    }
    let _alone = alone();
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(4.0);
    let image = kernel().image().prelude("import os, json\nn = 0\nrows = []").build().unwrap();
    kernel().keep_ready(Some(&image), 16).unwrap();
    let begun = Has::now();
    let part = Duration::from_secs_f64(seconds / 2.0);
    // What is kept for the next sessions (idle slots, the heap) is there after the first part.
    let first = soak(&image, 1, part);
    let before = settled(|has| has.descriptors <= begun.descriptors + 80);
    let second = soak(&image, 2, part);
    let descriptors = before.descriptors + 80;
    let after = settled(|has| has.descriptors <= descriptors && has.threads <= before.threads + 4);
    eprintln!("{} actions; {begun:?}, then {before:?}, then {after:?}", first + second);
    // 64 idle slots keep up to 8 MiB each at hand for the next sessions.
    assert!(after.memory_bytes <= before.memory_bytes + (192 << 20), "{before:?} {after:?}");
    assert!(after.memory_bytes <= begun.memory_bytes + (700 << 20), "{begun:?} {after:?}");
    assert!(after.descriptors <= descriptors, "{before:?} {after:?}");
    assert!(after.threads <= begun.threads + 8, "{begun:?} {after:?}");
}
