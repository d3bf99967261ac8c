//! Conflicts that are settled: one side holds, and nothing of the other is half there.

use std::collections::BTreeMap;

use agentkernel::Side;

use super::*;

const FILES: [(&str, &str); 3] = [("a", "a"), ("b", "b"), ("d/inner", "i")];

type Content = BTreeMap<String, String>;

/// All files of a directory.
fn content(root: &Path) -> Content {
    fn walk(at: &Path, path: &str, all: &mut Content) {
        for entry in fs::read_dir(at).unwrap().flatten() {
            let name = format!("{path}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), all),
                false => drop(all.insert(name, fs::read_to_string(entry.path()).unwrap())),
            }
        }
    }
    let mut all = Content::new();
    walk(root, "", &mut all);
    all
}

fn as_content(files: &[(&str, &str)]) -> Content {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn the_side_that_is_named_holds() {
    let write =
        |path: &'static str, text: &'static str| move |root: &Path| fs::write(root.join(path), text).unwrap();
    let remove = |path: &'static str| move |root: &Path| fs::remove_file(root.join(path)).unwrap();
    let no_directory = |root: &Path| fs::remove_dir_all(root.join("d")).unwrap();
    type Theirs<'a> = &'a dyn Fn(&Path);
    type Held = Option<&'static [(&'static str, &'static str)]>;
    // What the program does, what others do, and what there is when the one or the other side holds.
    let cases: [(&str, Theirs, Held, Held); 17] = [
        (
            "open('a', 'w').write('ours')",
            &write("a", "theirs!"),
            Some(&[("a", "ours"), ("b", "b"), ("d/inner", "i")]),
            Some(&[("a", "theirs!"), ("b", "b"), ("d/inner", "i")]),
        ),
        (
            "open('a', 'w').write('ours')",
            &remove("a"),
            Some(&[("a", "ours"), ("b", "b"), ("d/inner", "i")]),
            Some(&[("b", "b"), ("d/inner", "i")]),
        ),
        (
            "open('new', 'w').write('ours')",
            &write("new", "theirs"),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "i"), ("new", "ours")]),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "i"), ("new", "theirs")]),
        ),
        (
            "os.remove('a')",
            &write("a", "theirs!"),
            Some(&[("b", "b"), ("d/inner", "i")]),
            Some(&[("a", "theirs!"), ("b", "b"), ("d/inner", "i")]),
        ),
        (
            "open('d/inner', 'w').write('ours')",
            &write("d/inner", "theirs"),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "ours")]),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "theirs")]),
        ),
        // What was moved would be lost, and so would what moved over it.
        (
            "os.rename('a', 'moved')",
            &write("a", "theirs!"),
            Some(&[("b", "b"), ("d/inner", "i"), ("moved", "theirs!")]),
            None,
        ),
        (
            "os.rename('b', 'a'); open('a', 'a').write('!')",
            &write("a", "theirs!"),
            Some(&[("a", "b!"), ("d/inner", "i")]),
            None,
        ),
        // A directory and what is in it.
        (
            "os.remove('d/inner'); os.rmdir('d')",
            &write("d/more", "theirs"),
            Some(&[("a", "a"), ("b", "b")]),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "i"), ("d/more", "theirs")]),
        ),
        (
            "os.remove('d/inner'); os.rmdir('d'); open('d', 'w').write('ours')",
            &|root| {
                fs::create_dir_all(root.join("d/e/f")).unwrap();
                fs::write(root.join("d/e/f/g"), "theirs").unwrap();
            },
            Some(&[("a", "a"), ("b", "b"), ("d", "ours")]),
            Some(&[("a", "a"), ("b", "b"), ("d/e/f/g", "theirs"), ("d/inner", "i")]),
        ),
        // Two names of one file, of which nothing was moved.
        (
            "os.link('a', 'c'); open('c', 'w').write('ours'); open('a', 'a').write('!')",
            &write("a", "theirs!"),
            Some(&[("a", "ours!"), ("b", "b"), ("c", "ours!"), ("d/inner", "i")]),
            Some(&[("a", "theirs!"), ("b", "b"), ("c", "ours!"), ("d/inner", "i")]),
        ),
        // A directory that is gone comes back with the changes alone, or stays away with them.
        (
            "open('d/inner', 'w').write('ours')",
            &no_directory,
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "ours")]),
            Some(&[("a", "a"), ("b", "b")]),
        ),
        (
            "os.remove('d/inner'); os.makedirs('d/e/f'); open('d/e/f/g', 'w').write('ours'); os.link('d/e/f/g', 'd/h')",
            &no_directory,
            Some(&[("a", "a"), ("b", "b"), ("d/e/f/g", "ours"), ("d/h", "ours")]),
            Some(&[("a", "a"), ("b", "b")]),
        ),
        (
            "open('d/new', 'w').write('ours')",
            &|root| {
                no_directory(root);
                fs::write(root.join("d"), "theirs").unwrap();
            },
            Some(&[("a", "a"), ("b", "b"), ("d/new", "ours")]),
            Some(&[("a", "a"), ("b", "b"), ("d", "theirs")]),
        ),
        ("os.rename('d', 'moved'); open('moved/new', 'w').write('ours')", &no_directory, None, None),
        // What was moved into it is still there to be moved; what was moved out of it is not.
        ("os.rename('a', 'd/a')", &no_directory, Some(&[("b", "b"), ("d/a", "a")]), None),
        ("os.rename('d/inner', 'inner'); open('d/new', 'w').write('ours')", &no_directory, None, None),
        // Two directories of one name.
        (
            "os.mkdir('new'); open('new/file', 'w').write('ours')",
            &|root| {
                fs::create_dir(root.join("new")).unwrap();
                fs::write(root.join("new/other"), "theirs").unwrap();
            },
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "i"), ("new/file", "ours")]),
            Some(&[("a", "a"), ("b", "b"), ("d/inner", "i"), ("new/other", "theirs")]),
        ),
    ];
    for (program, theirs, ours_hold, theirs_hold) in cases {
        for (side, expected) in [(Side::Overlay, ours_hold), (Side::Directory, theirs_hold)] {
            let (_directory, overlay, mut session) = over(&FILES);
            session.run_blocking(format!("import os\n{program}\nopen('aside', 'w').write('x')")).unwrap();
            let root = overlay.directory().to_owned();
            theirs(&root);
            let before = content(&root);
            assert_eq!(overlay.apply().unwrap_err().kind(), ErrorKind::Conflict, "{program}");
            let checkpoint = overlay.checkpoint();
            let settled = overlay.settle("", side);
            match expected {
                Some(expected) => {
                    assert!(settled.unwrap() > 0, "{program}");
                    checkpoint.commit().unwrap();
                    assert_eq!(overlay.conflicts().unwrap(), [], "{program}: {side:?}");
                    overlay.apply().unwrap();
                    let mut expected = as_content(expected);
                    expected.insert("aside".into(), "x".into());
                    assert_eq!(content(&root), expected, "{program}: {side:?}");
                    assert!(overlay.diff().unwrap().changes.is_empty() && overlay.held_bytes() == 0);
                }
                None => {
                    let error = settled.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{program}: {side:?}");
                    checkpoint.roll_back();
                    assert!(overlay.apply().is_err(), "{program}: {side:?}");
                    assert_eq!(content(&root), before, "{program}: {side:?}");
                }
            }
        }
    }
}

/// A conflict within something that the overlay has put in the place of a directory is settled with that, and not by itself.
#[test]
fn what_takes_the_place_of_a_directory_is_not_dropped_for_a_path_in_it() {
    for (program, sides) in [
        (
            "os.remove('d/inner'); os.rmdir('d'); os.mkdir('d'); open('d/new', 'w').write('ours')",
            &[("d/x", Side::Directory)][..],
        ),
        (
            "os.remove('d/inner'); os.rmdir('d'); open('d', 'w').write('ours')",
            &[("", Side::Overlay), ("d/x", Side::Directory)],
        ),
        ("os.remove('d/inner'); os.rmdir('d')", &[("d/x", Side::Directory)]),
    ] {
        let (_directory, overlay, mut session) = over(&FILES);
        session.run_blocking(format!("import os\n{program}")).unwrap();
        let root = overlay.directory().to_owned();
        fs::write(root.join("d/x"), "theirs").unwrap();
        let before = overlay.diff().unwrap();
        let error = overlay.settle_each(sides).unwrap_err();
        assert!(error.to_string().contains("settle that"), "{program}: {error}");
        assert_eq!(overlay.diff().unwrap(), before, "{program}");
    }
}

#[test]
fn each_place_is_settled_by_itself_and_until_it_changes_once_more() {
    let (place, _, _) = over(&[("a", "a"), ("ab", "ab"), ("d/b", "b")]);
    let (root, layers) = (place.path().join("root"), place.path().join("layers"));
    let overlay = Overlay::open(&root, &layers).unwrap();
    start(&overlay).run_blocking("for name in ['a', 'ab', 'd/b']: open(name, 'w').write('ours')").unwrap();
    for name in ["a", "ab", "d/b"] {
        fs::write(root.join(name), "theirs").unwrap();
    }
    assert_eq!(overlay.settle("absent", Side::Overlay).unwrap(), 0);
    assert_eq!(overlay.settle("a", Side::Overlay).unwrap(), 1);
    assert_eq!(overlay.settle("d", Side::Directory).unwrap(), 1);
    let left: Vec<_> = overlay.conflicts().unwrap().into_iter().map(|conflict| conflict.path).collect();
    assert_eq!(left, ["ab"]);
    // It is in the layers, and so in the next process.
    drop(overlay);
    let overlay = Overlay::open(&root, &layers).unwrap();
    assert_eq!(overlay.settle("ab", Side::Directory).unwrap(), 1);
    std::thread::sleep(Duration::from_millis(20));
    fs::write(root.join("a"), "theirs again").unwrap();
    assert_eq!(overlay.conflicts().unwrap().len(), 1);
    assert_eq!(overlay.settle("a", Side::Overlay).unwrap(), 1);
    overlay.apply().unwrap();
    let expected = [("a", "ours"), ("ab", "theirs"), ("d/b", "theirs")];
    assert_eq!(content(&root), as_content(&expected));
    assert_eq!(overlay.held_bytes(), 0);
}

#[test]
fn the_longest_path_decides_at_each_conflict() {
    let files = [("a", "a"), ("d/b", "b"), ("d/c/e", "e"), ("dd", "dd")];
    let (_directory, overlay, mut session) = over(&files);
    let code = "for name in ['a', 'd/b', 'd/c/e', 'dd']: open(name, 'w').write('ours')";
    session.run_blocking(code).unwrap();
    let root = overlay.directory().to_owned();
    files.iter().for_each(|(name, _)| fs::write(root.join(name), "theirs").unwrap());
    // In whatever order they are named.
    let sides = [
        ("d/c/e", Side::Overlay),
        ("", Side::Overlay),
        ("d/c", Side::Directory),
        ("d", Side::Directory),
        ("absent", Side::Overlay),
    ];
    let checkpoint = overlay.checkpoint();
    assert_eq!(overlay.settle_each(&sides).unwrap(), [1, 4, 1, 2, 0]);
    checkpoint.apply().unwrap();
    let expected = [("a", "ours"), ("d/b", "theirs"), ("d/c/e", "ours"), ("dd", "ours")];
    assert_eq!(content(&root), as_content(&expected));
    assert!(overlay.diff().unwrap().changes.is_empty() && overlay.held_bytes() == 0);
    // It is over, and the overlay goes on.
    session.run_blocking("open('a', 'w').write('again')").unwrap();
    let (outer, inner) = (overlay.checkpoint(), overlay.checkpoint());
    assert_eq!(inner.apply().unwrap_err().kind(), ErrorKind::Grant);
    assert_eq!(outer.apply().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "again");
}

/// Where others keep the last step from being done, all is put back: only what was a conflict is one again.
#[cfg(target_os = "linux")]
#[test]
fn an_apply_that_fails_half_way_settles_nothing() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let (place, _, _) = over(&[("a", "a"), ("deep/er/b", "b"), ("sub/c", "c")]);
    let (root, layers) = (place.path().join("root"), place.path().join("layers"));
    // By a call: a process that is started has the layers of other tests open for a moment.
    let fix = |is_fixed| {
        let sub = fs::File::open(root.join("sub")).unwrap();
        let flags = ioctl_getflags(&sub)?.difference(IFlags::IMMUTABLE);
        ioctl_setflags(&sub, if is_fixed { flags | IFlags::IMMUTABLE } else { flags })
    };
    if fix(true).and_then(|()| fix(false)).is_err() {
        eprintln!("skipped: nothing can be made immutable here");
        return;
    }
    let overlay = Overlay::open(&root, &layers).unwrap();
    // Older files are known by their times, which change when they are taken out and put back.
    std::thread::sleep(Duration::from_secs(4));
    start(&overlay)
        .run_blocking("for name in ['a', 'deep/er/b', 'sub/c']: open(name, 'w').write('ours')")
        .unwrap();
    fs::write(root.join("a"), "theirs").unwrap();
    for side in [Side::Overlay, Side::Directory] {
        fix(true).unwrap();
        let checkpoint = overlay.checkpoint();
        assert_eq!(overlay.settle_each(&[("a", side)]).unwrap(), [1]);
        let failed = checkpoint.apply();
        fix(false).unwrap();
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::System);
        let expected = [("a", "theirs"), ("deep/er/b", "b"), ("sub/c", "c")];
        assert_eq!(content(&root), as_content(&expected));
        let left: Vec<_> = overlay.conflicts().unwrap().into_iter().map(|conflict| conflict.path).collect();
        assert_eq!(left, ["a"]);
    }
    drop(overlay);
    let overlay = Overlay::open(&root, &layers).unwrap();
    let left: Vec<_> = overlay.conflicts().unwrap().into_iter().map(|conflict| conflict.path).collect();
    assert_eq!(left, ["a"]);
    let checkpoint = overlay.checkpoint();
    assert_eq!(overlay.settle("a", Side::Overlay).unwrap(), 1);
    checkpoint.apply().unwrap();
    let expected = [("a", "ours"), ("deep/er/b", "ours"), ("sub/c", "ours")];
    assert_eq!(content(&root), as_content(&expected));
}
