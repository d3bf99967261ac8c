//! Sessions that can be run again, with turns that are taken back in them.

use agentkernel::{Ending, Outcome, Recording, Replaying, Session, SessionBuilder};
use agentkernel_tests::{builder, echo, kernel, limits};

const CODES: [&str; 8] = [
    "import random, time, os, asyncio\nfrom tools.echo import counters as c\nkept = c.Counter(5)\nprint(random.random(), time.monotonic(), kept.next())",
    "x = [random.random()]; open('f', 'w').write(str(x[0])); print(x)",
    "x.append(2); kept.next(); random.seed(1); time.sleep(0.01); print('at', time.monotonic()); os.abort()",
    "print(x, random.random(), os.urandom(4), kept.next(), time.monotonic())",
    "x.append(3); other = c.Counter(70); print('again', other.next())",
    "!rollback",
    "print(x, 'other' in globals(), random.random()); other = c.Counter(80); print(other.next(), os.path.getsize('f'))",
    "await asyncio.sleep(0.01); print(time.time(), random.random())",
];

fn play(session: SessionBuilder) -> Vec<Outcome> {
    let mut session: Session = session.limits(limits()).start().unwrap();
    let mut outcomes = Vec::new();
    for code in CODES {
        match code {
            "!rollback" => session.rollback().unwrap(),
            code => outcomes.push(session.run_blocking(code).unwrap()),
        }
    }
    outcomes
}

fn said(outcomes: &[Outcome]) -> Vec<String> {
    let text = |outcome: &Outcome| {
        let ending = match &outcome.ending {
            Ending::Raised(exception) => exception.traceback.clone(),
            ending => ending.name().to_owned(),
        };
        format!("{ending} {}: {}", outcome.rolled_back, String::from_utf8_lossy(&outcome.stdout))
    };
    outcomes.iter().map(text).collect()
}

#[test]
fn sessions_whose_turns_are_taken_back_are_the_same_again() {
    if !kernel().info().host_owned_memory {
        return eprintln!("skipped: this kernel does not own the guest's memory");
    }
    let kernel = builder().tool(echo()).build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.cassette");
    let recording = Recording::create(&path).unwrap();
    let recorded = said(&play(kernel.session().record(&recording)));
    drop(recording);
    assert!(recorded[2].starts_with("trapped true: at"), "{recorded:#?}");
    assert!(recorded.iter().all(|text| !text.contains("Traceback")), "{recorded:#?}");
    let replaying = Replaying::open(&path).unwrap();
    assert_eq!(said(&play(kernel.session().replay(&replaying))), recorded);
    let first = said(&play(kernel.session().deterministic(3)));
    assert_eq!(said(&play(kernel.session().deterministic(3))), first);
    assert_ne!(said(&play(kernel.session().deterministic(4))), first);
}

#[test]
fn what_follows_a_turn_that_was_stopped_is_replayed_too() {
    if !kernel().info().host_owned_memory {
        return eprintln!("skipped: this kernel does not own the guest's memory");
    }
    let codes = [
        "import random, time; x = [1]; print(random.random())",
        "x.append(2); print('on', random.random(), flush=True)\nwhile True: pass",
        "print(x, random.random(), time.monotonic())",
        "x.append(3); time.sleep(60)",
        "print(x, random.random(), time.monotonic())",
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.cassette");
    let mut short = limits();
    short.timeout = Some(std::time::Duration::from_millis(300));
    let play = |session: SessionBuilder| {
        let mut session = session.limits(short.clone()).start().unwrap();
        said(&codes.map(|code| session.run_blocking(code).unwrap()))
    };
    let recording = Recording::create(&path).unwrap();
    let recorded = play(kernel().session().record(&recording));
    recording.finish().unwrap();
    assert!(recorded[1].starts_with("timed-out true") && recorded[2].contains("[1]"), "{recorded:#?}");
    let replaying = Replaying::open(&path).unwrap();
    assert_eq!(play(kernel().session().replay(&replaying)), recorded);
    replaying.finish().unwrap();
}
