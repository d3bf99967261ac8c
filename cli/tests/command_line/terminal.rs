//! A terminal to try the interactive parts on.

use super::*;

/// The binary on a real terminal, which `script` of util-linux makes.
pub struct Terminal {
    child: std::process::Child,
    keys: std::process::ChildStdin,
    screen: std::sync::mpsc::Receiver<u8>,
    seen: String,
}

impl Terminal {
    pub fn start(directory: &Path, arguments: &str) -> Self {
        let program = format!("stty cols 80 rows 24; exec {} {arguments}", env!("CARGO_BIN_EXE_agentkernel"));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &program, "/dev/null"])
            .current_dir(directory)
            .env("XDG_STATE_HOME", directory)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux makes a terminal");
        let (sender, screen) = std::sync::mpsc::channel();
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            std::io::BufReader::new(output)
                .bytes()
                .map_while(Result::ok)
                .all(|byte| sender.send(byte).is_ok());
        });
        let keys = child.stdin.take().unwrap();
        Terminal { child, keys, screen, seen: String::new() }
    }

    /// Reads the screen until `text` shows on it, after what was read before.
    #[track_caller]
    pub fn see(&mut self, text: &str) {
        let mut bytes = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(120);
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(byte) => bytes.push(byte),
                Err(_) => panic!("no `{text}` after {}{}", self.seen, String::from_utf8_lossy(&bytes)),
            }
        }
        self.seen += &String::from_utf8_lossy(&bytes);
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Enters a line at the prompt.
    #[track_caller]
    pub fn enter(&mut self, line: &str) {
        self.see(">>> ");
        // The editor reads keys one line at a time.
        std::thread::sleep(Duration::from_millis(100));
        self.type_in(&format!("{line}\r"));
    }

    /// All that was read of the screen.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    pub fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}
