//! Sessions that can be run again, with tools whose resources are declared.

use agentkernel::{Ending, Recording, Replaying, SessionBuilder, ToolResources};

use super::*;

const CODES: [&str; 7] = [
    "import os\nfrom tools.echo import counters as c, faults as f\nk = c.Counter(5)\nprint(k.next(), os.listdir())",
    "open('file', 'w').write('text'); print(k.next(), os.listdir()); k.close()\nos.abort()",
    "print('k' in globals()); print(k.next())",
    "!rollback",
    "other = c.Counter(70); print(other.next(), k.next())",
    "os.abort()",
    "print(k.next(), other.next())",
];

/// What the turns print and how they end, until the session has ended.
fn play(session: SessionBuilder) -> Vec<String> {
    let mut session = session.limits(limits()).start().unwrap();
    let turn = |code: &&str| match *code {
        "!rollback" => format!("{:?}", session.rollback().map_err(|error| error.to_string())),
        code => match session.run_blocking(code) {
            Ok(outcome) => {
                let ending = match &outcome.ending {
                    Ending::Raised(exception) => exception.traceback.clone(),
                    ending => ending.name().to_owned(),
                };
                format!("{ending} {}: {}", outcome.rolled_back, String::from_utf8_lossy(&outcome.stdout))
            }
            Err(error) => error.to_string(),
        },
    };
    CODES.iter().map(turn).collect()
}

#[test]
fn recorded_sessions_are_the_same_again() {
    skip_unless_owned!();
    for resources in
        [ToolResources::Kept, ToolResources::Closed, ToolResources::Recreated, ToolResources::Refused]
    {
        let kernel = kernel(resources);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.cassette");
        let recording = Recording::create(&path).unwrap();
        let recorded = play(kernel.session().record(&recording));
        recording.finish().unwrap();
        let after = &recorded[2];
        match resources {
            ToolResources::Recreated => assert_eq!(after, "completed false: True\n6\n"),
            ToolResources::Refused => assert!(after.contains("tools.echo.counters.Counter"), "{recorded:#?}"),
            _ => assert!(after.contains("ToolClosed"), "{recorded:#?}"),
        }
        let replaying = Replaying::open(&path).unwrap();
        assert_eq!(play(kernel.session().replay(&replaying)), recorded, "{resources:?}");
        replaying.finish().unwrap();
        let first = play(kernel.session().deterministic(3));
        assert_eq!(play(kernel.session().deterministic(3)), first, "{resources:?}");
        assert_eq!(first, recorded, "{resources:?}");
    }
}
