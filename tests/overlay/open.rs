//! Files that programs keep open while the overlay is forked, dropped or applied.

use std::fs;

use agentkernel::Overlay;
use serde_json::json;

use super::{answer, over, start};

/// What makes the file that `log` has open no file of the overlay any more.
type Leave = (&'static str, fn(&Overlay, &mut agentkernel::Session));

const WAYS_TO_LEAVE: [Leave; 3] = [
    ("discarded", |overlay, _| overlay.discard().unwrap()),
    ("removed", |_, session| drop(answer(session, "os.unlink('log'); 0"))),
    ("replaced", |_, session| drop(answer(session, "write('other', 'x'); os.rename('other', 'log'); 0"))),
];

#[test]
fn a_file_that_is_kept_open_does_not_write_into_a_fork() {
    for (way, leave) in WAYS_TO_LEAVE {
        for lasting in [false, true] {
            let (directory, overlay, mut session) = over(&[]);
            answer(&mut session, "log = open('log', 'a'); log.write('one'); log.flush(); 0");
            let fork = match lasting {
                true => overlay.fork_into(directory.path().join("fork")).unwrap(),
                false => overlay.fork().unwrap(),
            };
            leave(&overlay, &mut session);
            // It has its content for itself, as a file without a name.
            let more = "log.write('two'); log.flush(); os.fstat(log.fileno()).st_size";
            assert_eq!(answer(&mut session, more), json!(6), "{way}");
            assert_eq!(answer(&mut start(&fork), "read('log')"), json!("one"), "{way}, lasting: {lasting}");
        }
    }
}
