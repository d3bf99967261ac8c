//! Images: in files, of other kernels, made beforehand.

use std::time::Duration;

use agentkernel::{ErrorKind, Image, Session};
use agentkernel_tests::{builder, completes as run, echo, kernel, limits, repr, session};

use super::{LOOK, SEEN, STATE};

#[test]
fn images_are_files_for_other_kernels() {
    let mut parent = start!();
    run(&mut parent, STATE);
    run(&mut parent, "import os\nopen('x', 'w').write('x')");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    parent.snapshot().unwrap().save(&file).unwrap();
    let other = builder().build().unwrap();
    let image = other.load_image(&file).unwrap();
    let mut woken = other.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut woken, LOOK), SEEN);
    assert_eq!(repr(&mut woken, "os.listdir()"), "[]", "files are not part of an image");
    // An image of one kernel serves another of the same interpreter.
    let mut moved = kernel().session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut moved, LOOK), SEEN);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

/// Memory has positions in contexts, so whoever keeps it must be able to tell another one.
#[test]
fn images_say_what_contexts_looked_like() {
    drop(start!());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("a.txt"), "abc").unwrap();
    let open = || agentkernel::Context::open([at("a.txt")]).unwrap();
    let (first, other) = (open(), agentkernel::Context::builder().text("t", "other").build().unwrap());
    let session = kernel().session().limits(limits());
    let mut session = session.context(first).named_context("other", other).start().unwrap();
    run(&mut session, "from agentkernel import context");
    let file = at("state.akimg");
    session.fork().unwrap().snapshot().unwrap().save(&file).unwrap();
    let image = kernel().load_image(&file).unwrap();
    let differs = || image.context_mark("context").unwrap().difference(open().mark());
    assert_eq!(differs(), None);
    std::fs::write(at("a.txt"), "abcd").unwrap();
    assert!(differs().unwrap().ends_with("had 3 bytes, and has 4"));
    assert!(image.context_mark("other").unwrap().difference(open().mark()).is_some());
    assert!(image.context_mark("third").is_none());
}

#[test]
fn damaged_and_foreign_images_are_refused() {
    let mut parent = start!();
    run(&mut parent, "x = 1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    parent.snapshot().unwrap().save(&file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = kernel().load_image(&file).err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        assert!(error.remedy().is_some(), "{error}");
        error.to_string()
    };
    for length in [0, 1, 8, 40, 48, 60, 200, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
    let step = whole.len() / 97 + 1;
    for at in (0..whole.len()).step_by(step) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        refused(&bytes);
    }
    refused(&[&whole[..], b"x"].concat());
    let mut newer = whole.clone();
    newer[8] = 99;
    assert!(refused(&newer).contains("format"), "the version is named");
    assert!(
        refused(b"\x89PNG\r\n\x1a\n and something else that is long enough to be read")
            .contains("is not an image")
    );
    let missing = kernel().load_image(directory.path().join("none")).err().unwrap();
    assert!(missing.to_string().contains("there is no image"), "{missing}");
    let unwritable = parent.snapshot().unwrap().save(directory.path().join("no/where.akimg")).unwrap_err();
    assert_eq!(unwritable.kind(), ErrorKind::Image);
    std::fs::write(&file, &whole).unwrap();
    assert!(kernel().load_image(&file).is_ok());
}

#[test]
fn an_image_needs_its_tools_and_its_memory() {
    drop(start!());
    let with_tools = builder().tool(echo()).build().unwrap();
    let image = with_tools.image().tool("echo").prelude("import sys").build().unwrap();
    let mut session = with_tools.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut session, "'tools.echo' in sys.modules"), "True");
    let error = kernel().session().image(&image).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(error.to_string().contains("`echo`"), "{error}");
    let error = with_tools.image().tool("nothing").build().err().unwrap();
    assert!(error.to_string().contains("`nothing`"), "{error}");
    let mut small = limits();
    small.memory_bytes = image.memory_bytes() - 65536;
    let error = with_tools.session().limits(small).image(&image).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
}

#[test]
fn preludes_are_kept_in_the_cache_and_fail_in_words() {
    drop(start!());
    let cache = tempfile::tempdir().unwrap();
    let kernel = builder().cache_dir(Some(cache.path().into())).build().unwrap();
    let make = || kernel.image().prelude("import secrets, json\nonce = secrets.token_hex()").build().unwrap();
    let read = |image: &Image| {
        let mut session = kernel.session().limits(limits()).image(image).start().unwrap();
        repr(&mut session, "once, json.dumps([1])")
    };
    let (one, two) = (make(), make());
    assert_eq!(read(&one), read(&two), "the second comes from the cache");
    assert!(one.changed_bytes() < 8 << 20, "{}", one.changed_bytes());
    // A damaged entry is made anew.
    let entry = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry
        .filter(|path| path.is_dir())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("image-"));
    std::fs::write(entry.unwrap().join("entry.json"), "{").unwrap();
    assert_ne!(read(&make()), read(&one));
    let error = kernel.image().prelude("x = 1\nraise KeyError('no such thing')").build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(
        error.to_string().contains("KeyError: 'no such thing'") && error.to_string().contains("line 2"),
        "{error}"
    );
    let error = kernel.image().prelude("f = open('x', 'w')").build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
}

#[test]
fn recorded_sessions_are_not_kept() {
    drop(start!());
    let directory = tempfile::tempdir().unwrap();
    let recording = agentkernel::Recording::create(directory.path().join("x.cassette")).unwrap();
    let mut session = kernel().session().limits(limits()).record(&recording).start().unwrap();
    run(&mut session, "x = 1");
    let error = session.snapshot().err().unwrap();
    assert!(error.to_string().contains("recorded"), "{error}");
}

#[test]
fn where_memory_is_not_the_hosts_images_are_refused() {
    let portable = agentkernel::Kernel::builder().portable(true).build().unwrap();
    let mut session = portable.session().limits(limits()).start().unwrap();
    run(&mut session, "x = 1");
    for error in [
        session.snapshot().err().unwrap(),
        session.fork().err().unwrap(),
        session.rollback().err().unwrap(),
        portable.image().prelude("x = 1").build().err().unwrap(),
        portable.load_image("x").err().unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        assert!(error.remedy().unwrap().contains("Linux"), "{error}");
    }
}

#[test]
fn pools_are_filled_again_and_fall_back_to_a_start_of_ones_own() {
    drop(start!());
    let kernel = builder().build().unwrap();
    let image = kernel.image().prelude("canary = ['image']").build().unwrap();
    for image in [None, Some(&image)] {
        kernel.keep_ready(image, 4).unwrap();
        let full = || kernel.pool_stats(image).ready == 4;
        let wait = || {
            let since = std::time::Instant::now();
            while !full() {
                assert!(since.elapsed() < Duration::from_secs(30), "{:?}", kernel.pool_stats(image));
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait();
        let start = || {
            let session = kernel.session().limits(limits());
            match image {
                Some(image) => session.image(image),
                None => session,
            }
        };
        let mut sessions: Vec<Session> = (0..40).map(|_| start().start().unwrap()).collect();
        for (number, session) in sessions.iter_mut().enumerate() {
            let seen = repr(session, "globals().get('canary')");
            assert_eq!(seen, if image.is_some() { "['image']" } else { "None" });
            run(session, &format!("canary = [{number}]"));
        }
        let stats = kernel.pool_stats(image);
        assert!(stats.taken >= 4 && stats.taken + stats.missed == 40, "{stats:?}");
        drop(sessions);
        wait();
        kernel.keep_ready(image, 0).unwrap();
    }
}
