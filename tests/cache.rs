//! The compilation cache: what may be trusted, and what happens when nothing may be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use agentkernel::{CompilationCache, Ending, Kernel, Progress};

/// Builds a kernel with a cache at `root`, runs a program on it, and says whether it was compiled.
fn compiles(root: &Path) -> bool {
    let compiled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&compiled);
    let mut builder = Kernel::builder().cache_dir(Some(root.to_owned())).on_progress(move |progress| {
        if progress == Progress::Compiling {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    if let Some(guest) = std::env::var_os("AGENTKERNEL_GUEST") {
        builder = builder.guest(guest);
    }
    let kernel = builder.portable(std::env::var_os("AGENTKERNEL_PORTABLE").is_some()).build().unwrap();
    let outcome = kernel.session().start().unwrap().run_blocking("6 * 7").unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(Some(value)) if value.repr == "42"));
    compiled.load(Ordering::Relaxed) > 0
}

fn entry(root: &Path) -> PathBuf {
    let mut entries =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let entry = entries.next().unwrap();
    assert!(entries.next().is_none(), "one entry");
    entry
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One test, because each compilation takes seconds.
#[test]
fn only_a_whole_entry_that_nobody_else_could_write_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    assert!(compiles(&root));
    assert!(!compiles(&root), "the second start loads");
    let entries = CompilationCache::new(Some(root.clone())).entries().unwrap();
    assert!(entries.len() == 1 && entries[0].problem.is_none(), "{entries:?}");
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o077, 0, "the cache is the user's own");

    let entry = entry(&root);
    let compiled = entry.join("guest.cwasm");

    // Cut short.
    let whole = fs::read(&compiled).unwrap();
    fs::write(&compiled, &whole[..whole.len() / 2]).unwrap();
    assert!(compiles(&root));
    // Writable by others: the file, its directory, the cache.
    for path in [&compiled, &entry] {
        allow(path, 0o777);
        let problem = CompilationCache::new(Some(root.clone())).entries().unwrap()[0].problem.clone();
        assert!(problem.unwrap().contains("can be written by others"));
        assert!(compiles(&root), "{}", path.display());
    }
    // Not a file at all.
    fs::remove_file(&compiled).unwrap();
    symlink("/etc/passwd", &compiled).unwrap();
    assert!(compiles(&root));
    // An index that is nonsense, or names other files.
    for index in ["", "{", r#"{"files":[{"name":"../../x","bytes":1,"sha256":""}]}"#] {
        fs::write(entry.join("entry.json"), index).unwrap();
        assert!(compiles(&root), "{index}");
    }
    // A change of a byte keeps the length; `entries` reads every byte.
    let mut bytes = fs::read(&compiled).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&compiled, &bytes).unwrap();
    let problem = CompilationCache::new(Some(root.clone())).entries().unwrap()[0].problem.clone();
    assert!(problem.unwrap().contains("not what was written"));
    assert!(CompilationCache::new(Some(root.clone())).clear().unwrap() > 1 << 20);
    assert!(CompilationCache::new(Some(root)).entries().unwrap().is_empty());
}

#[test]
fn clearing_removes_what_is_the_caches_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    allow(root, 0o700);
    assert!(compiles(root));
    let key = CompilationCache::new(Some(root.into())).entries().unwrap().remove(0).key;
    let others = ["keep", "src-0123456789abcdef0123456789abcdef", "x-0123456789abcdef", ".git"];
    for other in others {
        fs::create_dir(root.join(other)).unwrap();
        fs::write(root.join(other).join("precious"), "text").unwrap();
    }
    fs::create_dir(root.join(".building-1a2b3c")).unwrap();
    fs::write(root.join(".building-1a2b3c/guest.cwasm"), "half").unwrap();
    let cache = CompilationCache::new(Some(root.into()));
    // Its name is like that of an entry, and its content is not.
    let error = cache.clear().unwrap_err();
    assert!(error.to_string().contains("holds files that are not the cache's"), "{error}");
    // That is in the way of no other.
    assert!(!root.join(key).exists() && !root.join(".building-1a2b3c").exists());
    fs::remove_dir_all(root.join(others[1])).unwrap();
    cache.clear().unwrap();
    for other in [others[0], others[2], others[3]] {
        assert_eq!(fs::read_to_string(root.join(other).join("precious")).unwrap(), "text");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    assert!(compiles(&file.join("cache")), "below a file");
    // A cache directory that everybody may write to is nobody's.
    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    allow(&open, 0o777);
    assert!(compiles(&open));
    assert!(compiles(&open), "nothing was kept");
}

#[test]
fn many_starts_at_once_compile_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let barrier = Barrier::new(10);
    let compiled: usize = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    usize::from(compiles(&root))
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).sum()
    });
    assert_eq!(compiled, 1);
}
