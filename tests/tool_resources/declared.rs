//! What each declaration does, and where one has no effect.

use agentkernel::{ErrorKind, ToolResources};

use super::*;

#[test]
fn kept_resources_stay_as_the_turn_left_them_and_are_not_elsewhere() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Kept));
    let mut last = 6;
    ways_back(&mut session, "k.next(); mine = [c.Counter(n) for n in range(3)]", |session, how| {
        last += 2;
        assert_eq!(repr(session, "k.next(), c.Counter.open()"), format!("({last}, 1)"), "{how}");
    });
    elsewhere(&mut session, ToolResources::Kept, |session, _| {
        is_closed(session, "k.next()");
        assert_eq!(repr(session, "c.Counter(1).next(), c.Counter.open()"), "(2, 0)");
    });
    // What the turn closed is closed.
    run(&mut session, "k.close()");
    session.rollback().unwrap();
    is_closed(&mut session, "k.next()");
}

#[test]
fn closed_resources_are_closed_on_the_way_back_too() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Closed));
    ways_back(&mut session, "mine = c.Counter(1); mine.next()", |session, how| {
        is_closed(session, "k.next()");
        assert_eq!(repr(session, "c.Counter.open(), 'mine' in globals()"), "(0, False)", "{how}");
        run(session, "k = c.Counter(5)");
    });
    assert_eq!(repr(&mut session, "k.next()"), "6");
    elsewhere(&mut session, ToolResources::Closed, |session, _| is_closed(session, "k.next()"));
    assert_eq!(repr(&mut session, "k.next()"), "7", "a fork takes nothing away");
}

#[test]
fn refused_resources_keep_the_state_from_being_kept_while_one_is_open() {
    skip_unless_owned!();
    let kernel = kernel(ToolResources::Refused);
    let mut session = start(&kernel);
    let told = "a resource of a tool, `tools.echo.counters.Counter`";
    for error in [
        session.snapshot().err().unwrap(),
        session.fork().err().unwrap(),
        session.transaction().err().unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Held, "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.remedy().is_some_and(|hint| hint.contains("resources of tools")), "{error}");
    }
    run(&mut session, "more = [c.Counter(n) for n in range(3)]; held = open('f', 'w')");
    let error = session.fork().err().unwrap().to_string();
    assert!(error.contains("the file f") && error.contains("4 resources of a tool"), "{error}");
    assert_eq!(repr(&mut session, "k.next()"), "7", "a refusal closes nothing");
    run(&mut session, "del more; held.close(); k.close()");
    elsewhere(&mut session, ToolResources::Refused, |session, _| is_closed(session, "k.next()"));
    // What a turn opens that is taken back is gone with it.
    ways_back(&mut session, "mine = [c.Counter(1) for _ in range(9)]", |session, how| {
        assert!(session.fork().is_ok(), "{how}");
        assert_eq!(repr(session, "c.Counter.open()"), "0", "{how}");
    });
    // One that was open before a turn is stopped ends the session, which says why.
    run(&mut session, "k = c.Counter(1)");
    let outcome = session.run_blocking("os.abort()").unwrap();
    assert!(!outcome.rolled_back && !session.is_alive(), "{outcome:?}");
    let error = session.run_blocking("1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.to_string().contains(told), "{error}");
    // Nothing is kept, so nothing is in the way.
    let mut session = kernel.session().limits(limits()).rollback(false).start().unwrap();
    run(&mut session, "from tools.echo import counters as c\nk = c.Counter(5)");
    assert_eq!(repr(&mut session, "k.next()"), "6");
}

#[test]
fn a_turn_that_was_asked_back_is_refused_too() {
    skip_unless_owned!();
    let mut session = start(&kernel(ToolResources::Refused));
    run(&mut session, "k.next()");
    let error = session.rollback().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    assert!(error.to_string().contains("tools.echo.counters.Counter"), "{error}");
    assert_eq!(repr(&mut session, "k.next()"), "8");
}

#[test]
fn a_declaration_for_a_tool_without_resources_is_an_error() {
    let refused = |tool: Tool, message: &str| {
        let error = builder().tool(tool).build().err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
        assert!(error.to_string().contains(message) && error.remedy().is_some(), "{error}");
    };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("__init__.py"), "").unwrap();
    for resources in [ToolResources::Closed, ToolResources::Recreated, ToolResources::Refused] {
        refused(shipped("html", resources).grants(declaring(resources)), "`resources` has no effect");
        let functions = Tool::functions("f", "f: func();").function("f", |()| ());
        refused(functions.grants(declaring(resources)), "grants of `f` have no effect");
        let package = Tool::python("package", directory.path());
        refused(package.grants(declaring(resources)), "grants of `package` have no effect");
    }
}

/// Images that are made beforehand are images like others.
#[test]
fn a_prelude_may_open_what_is_made_anew() {
    skip_unless_owned!();
    let prelude = "from tools.echo import counters as c\nk = c.Counter(5)\nassert k.next() == 6";
    for (resources, expected) in [
        (ToolResources::Kept, Some("ToolClosed")),
        (ToolResources::Closed, Some("ToolClosed")),
        (ToolResources::Recreated, Some("6")),
        (ToolResources::Refused, None),
    ] {
        let kernel = kernel(resources);
        let image = match (kernel.image().prelude(prelude).build(), expected) {
            (Ok(image), Some(_)) => image,
            (Err(error), None) => {
                assert_eq!(error.kind(), ErrorKind::Held, "{error}");
                assert!(error.to_string().contains("tools.echo.counters.Counter"), "{error}");
                continue;
            }
            (made, _) => panic!("{resources:?}: {:?}", made.err()),
        };
        for _ in 0..2 {
            let mut session = kernel.session().limits(limits()).image(&image).start().unwrap();
            let code = "try: print(k.next())\nexcept Exception as error: print(type(error).__name__)";
            let outcome = session.run_blocking(code).unwrap();
            assert_eq!(String::from_utf8_lossy(&outcome.stdout).trim(), expected.unwrap(), "{resources:?}");
        }
    }
}

/// Modules that make resources anew are others. Whoever changes the declaration is told that it is that.
#[test]
fn an_image_needs_resources_to_be_made_anew_as_they_were() {
    skip_unless_owned!();
    let declared =
        [ToolResources::Kept, ToolResources::Closed, ToolResources::Refused, ToolResources::Recreated];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    for before in declared {
        let image = kernel(before).image().tool("echo").build().unwrap();
        image.save(&file).unwrap();
        for now in declared {
            let kernel = kernel(now);
            let in_file = kernel.load_image(&file).map(drop);
            let in_memory = kernel.session().limits(limits()).image(&image).start().map(drop);
            let told = match (before, now) {
                (ToolResources::Recreated, ToolResources::Recreated) => None,
                (ToolResources::Recreated, _) => Some("were \"recreated\" when the image was made"),
                (_, ToolResources::Recreated) => Some("are \"recreated\", and were not"),
                _ => None,
            };
            for found in [in_file, in_memory] {
                let Some(told) = told else {
                    found.unwrap();
                    continue;
                };
                let error = found.expect_err("it is refused");
                assert_eq!(error.kind(), ErrorKind::Image, "{error}");
                assert!(error.to_string().starts_with("`resources` of the tool `echo`"), "{error}");
                assert!(error.to_string().contains(told) && error.remedy().is_some(), "{error}");
            }
        }
    }
    // One that stands elsewhere besides is not as it was in more than that.
    let other = shipped("html", ToolResources::Kept);
    let kernel = builder().tool(other).tool(echo().grants(declaring(ToolResources::Kept))).build().unwrap();
    let error = kernel.load_image(&file).err().expect("it is refused");
    assert!(error.to_string().contains("stands at another place"), "{error}");
}
