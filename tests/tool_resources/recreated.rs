//! Resources that are made anew where they are gone.

use agentkernel::{ErrorKind, ToolResources};

use super::*;

fn recreating() -> Kernel {
    kernel(ToolResources::Recreated)
}

#[test]
fn recreated_resources_begin_anew_on_the_way_back() {
    skip_unless_owned!();
    let mut session = start(&recreating());
    for code in ["k.next()", "k.close()", "del k", "m = c.Counter.merge(k, c.Counter(1))", "f.trap()"] {
        let code = format!("try: {code}\nexcept c.Error: pass\nexcept Exception: pass");
        ways_back(&mut session, &code, |session, how| {
            assert_eq!(repr(session, "k.next(), c.Counter.open()"), "(6, 1)", "{code}: {how}");
            assert_eq!(repr(session, "k.next()"), "7", "{code}: {how}: it is one from then on");
        });
    }
    // In a session that nobody puts back it stays what it is.
    assert_eq!(repr(&mut session, "k.next(), k.next()"), "(8, 9)");
    // The program has closed it itself.
    run(&mut session, "k.close()");
    is_closed(&mut session, "k.next()");
    is_closed(&mut session.fork().unwrap(), "k.next()");
}

#[test]
fn recreated_resources_begin_anew_in_forks_and_from_images() {
    skip_unless_owned!();
    let mut session = start(&recreating());
    run(&mut session, "def later():\n    while True: yield k.next()\nl = later(); next(l)");
    elsewhere(&mut session, ToolResources::Recreated, |session, how| {
        run(session, "new = c.Counter(100)\nassert new.next() == 101");
        assert_eq!(repr(session, "next(l), next(l), c.Counter.open()"), "(6, 7, 2)", "{how}");
        assert_eq!(repr(session, "new.next()"), "102", "{how}: what is of this instance is not made anew");
    });
    assert_eq!(repr(&mut session, "k.next(), c.Counter.open()"), "(8, 1)", "nothing is seen of them");
    // Old and new ones in one call, given and lent.
    elsewhere(&mut session, ToolResources::Recreated, |session, how| {
        run(session, "new = c.Counter(100)\nnew.next()");
        assert_eq!(repr(session, "c.total([new, k, new])"), "207", "{how}");
        assert_eq!(repr(session, "c.Counter.merge(new, k).next(), c.Counter.open()"), "(107, 1)", "{how}");
        is_closed(session, "new.next()");
    });
    elsewhere(&mut session, ToolResources::Recreated, |session, how| {
        assert_eq!(repr(session, "c.Counter.merge(k, c.Counter(1)).next()"), "7", "{how}");
        is_closed(session, "k.next()");
    });
    // Two forks at once, and forks of forks.
    let mut fork = session.fork().unwrap();
    let forks = [fork.fork().unwrap(), session.fork().unwrap(), fork];
    let threads = forks.map(|mut fork| {
        std::thread::spawn(move || repr(&mut fork, "[k.next() for _ in range(300)][-1], c.Counter.open()"))
    });
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "(305, 1)");
    }
}

#[test]
fn a_resource_is_made_anew_after_its_tool_has_failed() {
    let mut session = recreating().session().limits(limits()).start().unwrap();
    run(
        &mut session,
        "from tools.echo import counters as c, faults as f\nk, other = c.Counter(5), c.Counter(50)",
    );
    for _ in 0..3 {
        assert_eq!(repr(&mut session, "k.next(), other.next(), c.Counter.open()"), "(6, 51, 2)");
        assert_eq!(error(&mut session, "f.trap()").0, "tools.ToolTrapped");
    }
    assert_eq!(repr(&mut session, "c.total([other, k])"), "55");
    assert_eq!(repr(&mut session, "other.close(); c.Counter.open()"), "1");
    assert_eq!(repr(&mut session, "del k; c.Counter.open()"), "0");
    // It is closed in its sleep.
    run(&mut session, "k = c.Counter(1)\ntry: f.trap()\nexcept Exception: pass\nk.close()");
    assert_eq!(repr(&mut session, "c.Counter.open()"), "0");
}

#[test]
fn what_cannot_be_made_anew_is_closed_and_says_why() {
    skip_unless_owned!();
    let mut session = start(&recreating());
    run(&mut session, "m = c.Counter.merge(k, c.Counter(1))\nassert m.next() == 8");
    elsewhere(&mut session, ToolResources::Recreated, |session, how| {
        let (kind, message) = error(session, "m.next()");
        assert_eq!(kind, "tools.ToolClosed", "{how}");
        assert!(
            message.contains("this Counter went") && message.contains("cannot be made anew: "),
            "{message}"
        );
        // As an item, which is looked at again for the message.
        is_closed(session, "c.total([c.Counter(1), m])");
        assert_eq!(repr(session, "c.Counter(1).next()"), "2");
    });
    assert_eq!(repr(&mut session, "m.next()"), "9");
}

#[test]
fn the_call_that_makes_it_anew_is_a_call_like_others() {
    skip_unless_owned!();
    let kernel = builder().tool(shipped("sql", ToolResources::Recreated)).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    run(
        &mut session,
        "import os, tools.sql\ndb = tools.sql.connect('shop.db')\ndb.execute('CREATE TABLE t (n)')\nread = tools.sql.connect('shop.db', True)",
    );
    let mut fork = session.fork().unwrap();
    run(&mut fork, "db.execute('INSERT INTO t VALUES (?)', [7])");
    assert_eq!(repr(&mut fork, "read.query('SELECT n FROM t')"), "[{'n': 7}]");
    assert_eq!(repr(&mut session, "db.query('SELECT n FROM t')"), "[]", "its workspace is another one");
    // It refuses to be made again, for as long as its file is not there.
    let mut fork = session.fork().unwrap();
    run(&mut fork, "os.rename('shop.db', 'kept')");
    for _ in 0..2 {
        let (kind, message) = error(&mut fork, "read.query('SELECT n FROM t')");
        assert_eq!(kind, "tools.sql.Error", "{message}");
        assert!(message.contains("shop.db"), "{message}");
    }
    run(&mut fork, "os.rename('kept', 'shop.db')");
    assert_eq!(repr(&mut fork, "read.query('SELECT n FROM t')"), "[]");
    // A transaction of SQLite that was begun in a turn which is taken back is not there.
    run(&mut session, "db.execute('BEGIN'); db.execute('INSERT INTO t VALUES (9)')");
    session.rollback().unwrap();
    assert_eq!(repr(&mut session, "db.query('SELECT n FROM t')"), "[]");
}

#[test]
fn what_is_made_of_others_is_made_anew_with_them() {
    skip_unless_owned!();
    let kernel = builder().tool(shipped("data_analysis", ToolResources::Recreated)).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    run(
        &mut session,
        "from tools.data_analysis import from_rows\n\
         t = from_rows([{'city': 'Rome', 'n': 1}, {'city': 'Oslo', 'n': 2}, {'city': 'Rome', 'n': 3}])\n\
         big = t.filter('n > 1')\n\
         names = from_rows({'city': ['Rome', 'Oslo'], 'land': ['it', 'no']})\n\
         joined = big.join(names, ['city']).sort(['n'], True).select(['land', 'n'])\n\
         del t, names",
    );
    let told = "[{'land': 'it', 'n': 3}, {'land': 'no', 'n': 2}]";
    assert_eq!(repr(&mut session, "joined.rows()"), told);
    let mut fork = session.fork().unwrap();
    assert_eq!(repr(&mut fork, "joined.rows()"), told);
    assert_eq!(repr(&mut fork, "big.append(big).row_count()"), "4");
    // Many small steps are too many at some time.
    run(
        &mut session,
        "t = from_rows([{'n': 1}])\nsteps = [t]\nfor _ in range(40): steps.append(steps[-1].limit(1))",
    );
    let mut fork = session.fork().unwrap();
    assert_eq!(repr(&mut fork, "steps[31].row_count()"), "1");
    let (kind, message) = error(&mut fork, "steps[32].row_count()");
    assert_eq!(kind, "tools.ToolClosed");
    assert!(message.contains("more than 32 calls"), "{message}");
    is_closed(&mut fork, "steps[-1].row_count()");
}

#[test]
fn calls_are_counted_as_they_are_made() {
    skip_unless_owned!();
    let kernel = recreating();
    let mut session = start(&kernel);
    // How many ended well, and how many in all.
    let calls = || {
        let calls = &kernel.metrics().tool_calls["echo"];
        (calls["ok"], calls.values().sum::<u64>())
    };
    assert_eq!(calls(), (2, 2));
    let mut fork = session.fork().unwrap();
    run(&mut fork, "k.next(); k.next()");
    assert_eq!(calls(), (5, 5));
    run(&mut session, "k.next(); del k");
    assert_eq!(calls(), (6, 6));
}

#[test]
fn functions_look_as_without_it() {
    let mut session = recreating().session().limits(limits()).start().unwrap();
    let mut plain = kernel(ToolResources::Kept).session().limits(limits()).start().unwrap();
    let code = "import inspect\nfrom tools.echo import counters as c, values as v\n\
        [(x.__name__, x.__qualname__, x.__module__, x.__doc__, str(inspect.signature(x))) for x in \
        (c.Counter, c.Counter.__init__, c.Counter.next, c.Counter.merge, c.total, v.add)]";
    assert_eq!(repr(&mut session, code), repr(&mut plain, code));
    let (kind, message) = error(&mut session, "c.total([1])");
    assert_eq!((kind.as_str(), message.as_str()), ("TypeError", "`of[0]` must be Counter, not int 1"));
}

#[test]
fn an_image_is_for_kernels_that_recreate_as_it_does() {
    skip_unless_owned!();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    start(&recreating()).snapshot().unwrap().save(&file).unwrap();
    let refusal = kernel(ToolResources::Kept).load_image(&file).err().expect("its modules are others");
    assert_eq!(refusal.kind(), ErrorKind::Image, "{refusal}");
    // The other declarations change no module.
    start(&kernel(ToolResources::Closed)).snapshot().unwrap().save(&file).unwrap();
    kernel(ToolResources::Kept).load_image(&file).unwrap();
}

#[test]
fn what_asynchronous_functions_give_is_made_anew() {
    let component = wat::parse_str(include_str!("../tools/composed/things.wat")).unwrap();
    let tool = Tool::from_bytes("things", component).grants(declaring(ToolResources::Recreated));
    let kernel = builder().tool(tool).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    run(
        &mut session,
        "import asyncio\nfrom tools.things import make, more, get, fail\nt = await make(5)\nu = await more(await more(t, 2), 3)",
    );
    let code = "asyncio.iscoroutinefunction(get), await asyncio.gather(get(u), get(t), get(u))";
    assert_eq!(repr(&mut session, code), "(True, [10, 5, 10])");
    assert_eq!(error(&mut session, "fail()").0, "tools.ToolTrapped");
    assert_eq!(repr(&mut session, code), "(True, [10, 5, 10])");
    if kernel.info().host_owned_memory {
        assert_eq!(repr(&mut session.fork().unwrap(), code), "(True, [10, 5, 10])");
        run(&mut session, "t.close()");
        assert_eq!(repr(&mut session.fork().unwrap(), "await get(await more(u, 1))"), "11");
        is_closed(&mut session, "await get(t)");
    }
}
