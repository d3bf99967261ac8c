//! Layers that cannot be written.

use std::fs;
use std::path::{Path, PathBuf};

use agentkernel::{ErrorKind, Overlay, Session, Workspace};
use agentkernel_tests::{kernel, limits};
use serde_json::json;
use tempfile::TempDir;

use super::{answer, start};

/// Makes more changes than an open transaction keeps a list of, so that its end writes all layers anew.
const MANY: &str = "for number in range(4000): os.mkdir(f'd{number}')";

struct Place {
    directory: TempDir,
    overlay: Overlay,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "0").unwrap();
        let overlay = Overlay::open(&root, directory.path().join("layers")).unwrap();
        Place { directory, overlay }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Keeps the layers from being written anew, whoever the user is.
    fn break_layers(&self) {
        fs::create_dir(self.at("layers/log.new")).unwrap();
    }

    fn mend_layers(&self) {
        fs::remove_dir(self.at("layers/log.new")).unwrap();
    }

    fn again(self) -> Self {
        let Place { directory, overlay } = self;
        drop(overlay);
        let at = |name: &str| directory.path().join(name);
        let overlay = Overlay::open(at("root"), at("layers")).unwrap();
        Place { directory, overlay }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn transactional(overlay: &Overlay, rollback: bool) -> Session {
    let builder = kernel().session().limits(limits()).rollback(rollback).transactional(true);
    let grants = agentkernel::Grants {
        workspace: Workspace::Overlay(overlay.clone()),
        limits: limits(),
        ..Default::default()
    };
    builder.grants(grants).start().unwrap()
}

#[test]
fn a_turn_whose_files_cannot_be_kept_is_taken_back() {
    if !kernel().info().host_owned_memory {
        eprintln!("skipped: memory cannot be put back here");
        return;
    }
    let place = Place::new();
    let mut session = transactional(&place.overlay, true);
    answer(&mut session, "n = 1; write('file', '1'); 0");
    place.break_layers();
    let error = session.run_blocking(format!("n = 2; write('file', '2')\n{MANY}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains("taken back, in memory and files"), "{error}");
    assert!(error.remedy().is_some());
    assert!(session.is_alive());
    place.mend_layers();
    let look = "[n, read('file'), sorted(os.listdir())]";
    assert_eq!(answer(&mut session, look), json!([1, "1", ["file"]]));
    answer(&mut session, "n = 3; write('file', '3'); 0");
    assert_eq!(answer(&mut session, look), json!([3, "3", ["file"]]));
    drop(session);
    let place = place.again();
    assert_eq!(answer(&mut start(&place.overlay), "[read('file'), os.listdir()]"), json!(["3", ["file"]]));

    // Without memory to go back to it ends, and says so.
    let mut session = transactional(&place.overlay, false);
    answer(&mut session, "n = 1; 0");
    place.break_layers();
    let error = session.run_blocking(format!("write('file', '4')\n{MANY}")).unwrap_err();
    assert!(error.to_string().contains("the session has ended"), "{error}");
    assert!(!session.is_alive());
    place.mend_layers();
    assert_eq!(answer(&mut start(&place.overlay), "[read('file'), os.listdir()]"), json!(["3", ["file"]]));
}

#[test]
fn what_was_applied_counts_as_applied_though_the_layers_cannot_be_written() {
    for again in [false, true] {
        let place = Place::new();
        let mut session = start(&place.overlay);
        answer(&mut session, "write('file', '1'); write('new', 'x'); 0");
        place.break_layers();
        place.overlay.apply().unwrap();
        assert_eq!([read(&place.at("root/file")), read(&place.at("root/new"))], ["1", "x"]);
        assert!(place.overlay.diff().unwrap().changes.is_empty());
        assert_eq!(place.overlay.conflicts().unwrap(), []);
        assert_eq!(answer(&mut session, "[read('file'), read('new')]"), json!(["1", "x"]));
        // A change that cannot be kept is refused; nothing that was applied comes back with a later one.
        assert_eq!(answer(&mut session, "error_of(write, 'file', '2') is not None"), json!(true));
        if again {
            // Somebody else's overlay finishes it, or this one's next process.
            drop(Overlay::over(place.at("root")).unwrap());
        }
        place.mend_layers();
        if !again {
            assert_eq!(answer(&mut session, "write('file', '3'); read('file')"), json!("3"));
        }
        drop(session);
        let place = place.again();
        let told: Vec<_> =
            place.overlay.diff().unwrap().changes.iter().map(|change| change.path.clone()).collect();
        assert_eq!(told, if again { vec![] } else { vec!["file".to_owned()] });
        place.overlay.apply().unwrap();
        assert_eq!(read(&place.at("root/file")), if again { "1" } else { "3" });
        let names = fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("apply")));
    }
}
