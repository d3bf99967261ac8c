//! Files of sessions that are nested deeper than paths and stacks go.

use super::*;

/// Nests directories in the working directory, and leaves a file at the bottom of them.
const NEST: &str = "
import os
at = os.open('.', os.O_RDONLY)
for _ in range(3000):
    os.mkdir('directory', dir_fd=at)
    below = os.open('directory', os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
    os.close(at)
    at = below
with open(os.open('bottom', os.O_CREAT | os.O_WRONLY, dir_fd=at), 'w') as file: file.write('here')
os.close(at)";

/// What is at the bottom.
const LOOK: &str = "
import os
at = os.open('.', os.O_RDONLY)
while True:
    try: below = os.open('directory', os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
    except FileNotFoundError: break
    os.close(at)
    at = below
with open(os.open('bottom', os.O_RDONLY, dir_fd=at)) as file: print(file.read())
os.close(at)";

#[test]
fn deep_files_are_forked_dropped_and_removed() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s"]);
    turn(at, "s", NEST);
    said(at, &["fork", "s", "t"]);
    assert_eq!(turn(at, "t", LOOK), "here\n");
    said(at, &["reset", "s", "--files"]);
    assert_eq!(turn(at, "s", "import os; print(os.listdir())"), "[]\n");
    assert_eq!(turn(at, "t", LOOK), "here\n");
    said(at, &["rm", "s", "t"]);
    assert_eq!(fs::read_dir(at.join("data/sessions")).unwrap().count(), 0);
}
