//! Programs that make much of resources which are made anew, or make up what they are.

use agentkernel::{Ending, ToolResources};

use super::*;

#[test]
fn ten_thousand_resources_are_made_anew_and_closed_again() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Recreated));
    run(&mut session, "many = [c.Counter(n) for n in range(10_000)]");
    elsewhere(&mut session, ToolResources::Recreated, |session, how| {
        assert_eq!(repr(session, "c.total(many)"), "49995000", "{how}");
        assert_eq!(
            repr(session, "sum(k.next() for k in many), c.Counter.open()"),
            "(50005000, 10000)",
            "{how}"
        );
        assert_eq!(repr(session, "many.clear(); c.Counter.open()"), "0", "{how}");
    });
    assert_eq!(repr(&mut session, "c.total(many), c.Counter.open()"), "(49995000, 10001)");
}

#[test]
fn much_that_a_resource_is_made_of_is_not_kept() {
    skip_unless_owned!();
    let kernel = builder().tool(shipped("data_analysis", ToolResources::Recreated)).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    run(
        &mut session,
        "import gc\nfrom tools.data_analysis import from_csv, Table\n\
         text = 'a\\n' + '1\\n' * 600_000\nsmall = from_csv('a\\n1\\n2\\n')\nbig = from_csv(text)\nof_big = big.limit(1)\n\
         assert not any(type(x) is bytes and len(x) > 1 << 20 for t in (small, big, of_big) for x in gc.get_referents(t))",
    );
    let mut fork = session.fork().unwrap();
    assert_eq!(repr(&mut fork, "small.row_count()"), "2");
    for name in ["big", "of_big"] {
        let (kind, message) = error(&mut fork, &format!("{name}.row_count()"));
        assert_eq!(kind, "tools.ToolClosed");
        assert!(message.contains("more than 1048576 bytes"), "{message}");
    }
}

/// An instance can hold 65,536 resources at once: what is opened in turns that are taken back does not pile up in it.
#[test]
fn rounds_of_rollbacks_leave_nothing_behind() {
    skip_unless_owned!();
    for resources in [ToolResources::Kept, ToolResources::Recreated] {
        let mut session = start(&kernel(resources));
        let mut counted = 6;
        for round in 0..18 {
            let code = "k.next()\nmore = [c.Counter(n) for n in range(4000)]\nos.abort()";
            let outcome = session.run_blocking(code).unwrap();
            assert!(outcome.rolled_back, "{resources:?}, round {round}: {outcome:?}");
            counted = if resources == ToolResources::Kept { counted + 2 } else { 6 };
            let found = repr(&mut session, "k.next(), c.Counter.open()");
            assert_eq!(found, format!("({counted}, 1)"), "{resources:?}, round {round}");
            session.rollback().unwrap();
        }
    }
}

#[test]
fn what_a_program_writes_into_a_resource_gets_it_nothing() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Recreated));
    run(
        &mut session,
        "import tools.echo as t\nfrom tools import _recreated as r\nfrom wit_world.imports import modules",
    );
    let mut fork = session.fork().unwrap();
    run(&mut fork, "j = c.Counter(40)\nj.next()");
    // Numbers and marks that are made up, of this instance and the one before.
    for code in [
        "k._number = j._number\nk.next()",
        "k._number, k._born = 12345, j._born\nk.next()",
        "k._recipe = None\nk.next()",
        "k._recipe = 7\nk.next()",
        "k._recipe = 'x' * 100\nk.next()",
        "k._recipe = r._Recipe(c.Counter, 4_000_000_000, lambda b: 1, b'', b'', [])\nk.next()",
        "k._recipe = r._Recipe(c.Counter, 0, lambda b: 1, b'', b'', [])\nk.next()",
        "k._recipe = r._Recipe(c.Counter, k._recipe.function, k._recipe.read, b'', b'', [])\nk.next()",
        "k._recipe = r._Recipe(c.Counter, k._recipe.function, lambda b: 2**31, k._recipe.head, b'', [])\nk.next()",
        "k._recipe.given = [k._recipe]\nk.next()",
        "r._Recipe.make = lambda self: j\nk.next()",
        "t._generation[0] = b'x' * 8\nk.next()",
        "t._generation[0] = b''\nk.next()",
        "t._generation[0] = None\nk.next()",
        "c.Counter._call = lambda *a: b'1234'\nk.next()",
        "c.Counter._generation = [b'12345678']\nk.next()",
    ] {
        let mut forged = fork.fork().unwrap();
        let outcome = forged.run_blocking(code).unwrap();
        let ended = matches!(outcome.ending, Ending::Raised(_) | Ending::Completed(_));
        assert!(ended, "{code}: {outcome:?}");
        run(&mut forged, "assert c.Counter.__init__");
    }
    assert_eq!(repr(&mut fork, "j.next(), k.next(), c.Counter.open()"), "(42, 6, 2)");
    // The host is called without a mark, with another's, and with every number there is.
    run(
        &mut fork,
        "import os\nfrom wit_world.imports import operations\n\
         for number in range(80):\n\
         \x20   for head in (b'', bytes(8), bytes(12), os.urandom(12), j._born, j._born + os.urandom(4), j._born + bytes(4)):\n\
         \x20       if number == c.Counter._drop: continue\n\
         \x20       try: modules.start(number, head, b'')\n\
         \x20       except Exception: pass",
    );
    run(&mut fork, "k = c.Counter(1)\nassert k.next() == 2");
    assert_eq!(repr(&mut session, "k.next()"), "7", "a fork's programs reach no other's instance");
}

/// The tool dies whenever one of its resources is made.
#[test]
fn a_tool_that_dies_while_it_makes_a_resource_is_not_asked_for_ever() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Recreated));
    let mut fork = session.fork().unwrap();
    run(
        &mut fork,
        "class Deadly(c.Counter):\n    def _open(self, number):\n        try: f.trap()\n        except Exception: pass\n        super()._open(number)\n\
         k._recipe.cls = Deadly",
    );
    for _ in 0..3 {
        is_closed(&mut fork, "k.next()");
        is_closed(&mut fork, "c.total([k, c.Counter(1), k])");
    }
    assert_eq!(repr(&mut fork, "c.Counter(1).next()"), "2");
}
