//! Cancellations and interrupts that come while a session is forked, kept, put back, or does nothing;
//! sessions, pools and kernels that end at bad moments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::{Canceller, Ending, Session};
use agentkernel_tests::{builder, completes as run, kernel, limits, repr, session, skip_unless_owned};

#[test]
fn a_cancellation_between_turns_stops_the_next_one_and_no_other() {
    skip_unless_owned!();
    // Before the first turn, and before one that the state is kept for.
    for first in ["", "x = 1; import os; os.listdir()"] {
        let mut session = session(limits());
        if !first.is_empty() {
            run(&mut session, first);
        }
        session.canceller().cancel();
        let outcome = session.run_blocking("x = 2").unwrap();
        assert_eq!(outcome.ending, Ending::Cancelled, "after {first:?}");
        assert!(outcome.rolled_back && session.is_alive());
        assert_eq!(repr(&mut session, "globals().get('x')"), if first.is_empty() { "None" } else { "1" });
        run(&mut session, "x = 3");
    }
}

#[test]
fn a_cancellation_does_not_end_what_is_done_between_turns() {
    skip_unless_owned!();
    let mut session = session(limits());
    // It holds directories, so the guest is asked to let go of them.
    run(&mut session, "x = 1; import os; os.listdir()");
    session.canceller().cancel();
    let mut fork = session.fork().unwrap();
    run(&mut fork, "x = 2");
    assert!(!session.is_incomplete("x = 1").unwrap());
    assert!(session.complete("os.listd").unwrap().contains(&"os.listdir(".to_owned()) || session.is_alive());
    session.rollback().unwrap();
    assert_eq!(session.run_blocking("x = 3").unwrap().ending, Ending::Cancelled);
    run(&mut session, "x = 4");
}

#[test]
fn an_interrupt_between_turns_does_nothing() {
    skip_unless_owned!();
    let mut session = session(limits());
    run(&mut session, "x = 1; import os; os.listdir()");
    session.canceller().interrupt();
    let mut fork = session.fork().unwrap();
    fork.canceller().interrupt();
    run(&mut fork, "x += 1");
    session.canceller().interrupt();
    run(&mut session, "x += 1");
    session.rollback().unwrap();
    session.canceller().interrupt();
    assert_eq!(repr(&mut session, "x"), "1");
}

/// Does `act` to the canceller that is current, again and again at odd moments, until it is dropped.
struct Storm {
    stop: Arc<AtomicBool>,
    target: Arc<Mutex<Canceller>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn over(canceller: Canceller, act: fn(&Canceller, u32)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let target = Arc::new(Mutex::new(canceller));
        let threads = (0..2u32)
            .map(|thread| {
                let (stop, target) = (Arc::clone(&stop), Arc::clone(&target));
                std::thread::spawn(move || {
                    let mut seed = 0x9e37_79b9_u32 ^ thread;
                    while !stop.load(Ordering::Relaxed) {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let wait = Duration::from_micros(u64::from(seed >> 20));
                        let until = Instant::now() + wait;
                        while Instant::now() < until {
                            std::hint::spin_loop();
                        }
                        let canceller = target.lock().unwrap().clone();
                        act(&canceller, seed >> 8);
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        Storm { stop, target, threads }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// A session under a storm lives on, and each turn is there whole or not at all.
fn under(act: fn(&Canceller, u32), may_raise: bool) {
    let mut session = session(limits());
    run(&mut session, "import os\nn = 0\nrows = []\nos.listdir()");
    let mut expected = 0u64;
    let storm = Storm::over(session.canceller(), act);
    let (mut done, mut stopped) = (0, 0);
    let until = Instant::now() + Duration::from_secs(3);
    for round in 0.. {
        if Instant::now() > until && done > 20 || Instant::now() > until + Duration::from_secs(20) {
            break;
        }
        let outcome = session.run_blocking("rows.append(n); n += 1; os.listdir(); len(rows)").unwrap();
        assert!(session.is_alive(), "{outcome:?}");
        match &outcome.ending {
            Ending::Completed(_) => (expected, done) = (expected + 1, done + 1),
            Ending::Cancelled => {
                assert!(outcome.rolled_back);
                stopped += 1;
            }
            // How far it came nobody knows; it is put back.
            Ending::Raised(exception) if may_raise && exception.kind == "KeyboardInterrupt" => {
                session.rollback().unwrap();
                stopped += 1;
            }
            _ => panic!("{outcome:?}"),
        }
        match round % 5 {
            1 => {
                session = session.fork().unwrap();
                *storm.target.lock().unwrap() = session.canceller();
            }
            2 => {
                let image = session.snapshot().unwrap();
                session = kernel().session().limits(limits()).image(&image).start().unwrap();
                *storm.target.lock().unwrap() = session.canceller();
            }
            3 if matches!(outcome.ending, Ending::Completed(_)) => {
                session.rollback().unwrap();
                expected -= 1;
            }
            _ => {}
        }
    }
    drop(storm);
    // One may still be waiting for the next turn.
    let _ = session.run_blocking("pass").unwrap();
    assert_eq!(repr(&mut session, "n, len(rows)"), format!("({expected}, {expected})"));
    assert!(done > 0, "{done} turns were done, {stopped} stopped");
}

#[test]
fn cancellations_at_any_moment_take_turns_back_whole() {
    skip_unless_owned!();
    under(|canceller, _| canceller.cancel(), false);
}

#[test]
fn interrupts_at_any_moment_end_turns_alone() {
    skip_unless_owned!();
    under(|canceller, _| canceller.interrupt(), true);
}

#[test]
fn both_at_any_moment() {
    skip_unless_owned!();
    under(
        |canceller, seed| if seed.is_multiple_of(3) { canceller.cancel() } else { canceller.interrupt() },
        true,
    );
}

#[test]
fn futures_that_are_dropped_end_their_session_and_no_other() {
    skip_unless_owned!();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    let mut parent = session(limits());
    run(&mut parent, "x = [1]");
    for round in 0..20 {
        let mut fork = parent.fork().unwrap();
        runtime.block_on(async {
            let turn = fork.run("while True: pass");
            let given_up = tokio::time::timeout(Duration::from_micros(500 * round), turn).await;
            assert!(given_up.is_err());
        });
        assert!(!fork.is_alive());
        assert!(fork.fork().is_err() && fork.snapshot().is_err() && fork.rollback().is_err());
        assert_eq!(repr(&mut parent, "x"), "[1]");
    }
}

#[test]
fn a_pool_may_be_filled_emptied_and_dropped_at_any_moment() {
    skip_unless_owned!();
    for round in 0..6u64 {
        let kernel = builder().build().unwrap();
        let image = kernel.image().prelude("import json; rows = [1, 2]").build().unwrap();
        kernel.keep_ready(None, 8).unwrap();
        kernel.keep_ready(Some(&image), 8).unwrap();
        let sessions: Vec<Session> = (0..12)
            .map(|number| {
                let builder = kernel.session().limits(limits());
                let builder = if number % 2 == 0 { builder.image(&image) } else { builder };
                builder.start().unwrap()
            })
            .collect();
        kernel.keep_ready(Some(&image), (round % 3) as usize).unwrap();
        for (number, mut session) in sessions.into_iter().enumerate() {
            let expected = if number % 2 == 0 { "True" } else { "False" };
            assert_eq!(repr(&mut session, "'rows' in globals()"), expected);
            if number % 3 == 0 {
                std::thread::spawn(move || drop(session));
            }
        }
        std::thread::sleep(Duration::from_millis(round));
        if round % 2 == 0 {
            // The session is the last user of its kernel.
            let mut last = kernel.session().image(&image).start().unwrap();
            drop((kernel, image));
            assert_eq!(repr(&mut last, "rows"), "[1, 2]");
        }
    }
}

#[test]
fn a_pool_serves_an_image_of_another_kernel() {
    skip_unless_owned!();
    let other = builder().build().unwrap();
    let mut made = other.session().limits(limits()).start().unwrap();
    run(&mut made, "rows = [1]");
    let image = made.snapshot().unwrap();
    drop((made, other));
    let kernel = builder().build().unwrap();
    kernel.keep_ready(Some(&image), 2).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while kernel.pool_stats(Some(&image)).ready < 2 {
        assert!(Instant::now() < until, "the pool is filled: {:?}", kernel.pool_stats(Some(&image)));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut one = kernel.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(kernel.pool_stats(Some(&image)).taken, 1);
    assert_eq!(repr(&mut one, "rows"), "[1]");
}

#[test]
fn two_hundred_forks_on_threads_and_fifty_below_each_other() {
    skip_unless_owned!();
    let mut parent = session(limits());
    run(&mut parent, "import hashlib\ndata = bytearray(b'x' * (2 << 20))\nmark = 'parent'");
    let forks: Vec<Session> = (0..200).map(|_| parent.fork().unwrap()).collect();
    std::thread::scope(|scope| {
        let mut forks = forks.into_iter().enumerate().collect::<Vec<_>>();
        for _ in 0..8 {
            let part = forks.split_off(forks.len() - 25);
            scope.spawn(move || {
                for (number, mut fork) in part {
                    run(
                        &mut fork,
                        &format!("assert mark == 'parent'; mark = {number}; data[::4096] = bytes(512)"),
                    );
                    let mut below = fork.fork().unwrap();
                    drop(fork);
                    assert_eq!(repr(&mut below, "mark, data.count(b'x')"), format!("({number}, 2096640)"));
                }
            });
        }
    });
    assert_eq!(repr(&mut parent, "mark, data.count(b'x')"), "('parent', 2097152)");
    let mut line = vec![parent];
    for depth in 0..50 {
        let mut fork = line.last_mut().unwrap().fork().unwrap();
        run(
            &mut fork,
            &format!("data[{depth} * 4096] = 0; extra{depth} = bytearray(100_000); mark = {depth}"),
        );
        line.push(fork);
    }
    for (depth, session) in line.iter_mut().enumerate().skip(1).rev().step_by(7) {
        assert_eq!(repr(session, "mark, data.count(0)"), format!("({}, {depth})", depth - 1));
    }
}

#[test]
fn images_and_forks_are_started_from_many_threads_at_once() {
    skip_unless_owned!();
    let mut parent = session(limits());
    run(&mut parent, "data = bytearray(b'x' * (3 << 20))");
    let image = parent.snapshot().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut one = kernel().session().limits(limits()).image(&image).start().unwrap();
                    assert_eq!(repr(&mut one, "data.count(b'x')"), "3145728");
                    run(&mut one, "data[:] = bytes(len(data))");
                }
            });
        }
    });
}
