//! Embeds AgentKernel: `cargo run -p agentkernel-host --example embedding`.
//!
//! One kernel, a session with a directory and limits of its own, three turns: the names of one turn
//! are there in the next, a mistake is an outcome and not an error, and what the program may not do
//! does not happen.

use std::time::Duration;

use agentkernel::{Ending, Kernel, Limits, Stream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> agentkernel::Result<()> {
    let kernel = Kernel::builder().on_progress(|progress| eprintln!("{progress:?}")).build()?;

    let mut limits = Limits::default();
    limits.timeout = Some(Duration::from_secs(5));
    limits.memory_bytes = 128 << 20;
    let mut session = kernel
        .session()
        .workspace(std::env::temp_dir())
        .limits(limits)
        .on_output(|stream, bytes| {
            let text = String::from_utf8_lossy(bytes);
            match stream {
                Stream::Stdout => print!("{text}"),
                Stream::Stderr => eprint!("{text}"),
            }
        })
        .start()?;

    for code in [
        "words = 'the quick brown fox jumps over the lazy dog the end'.split()",
        "from collections import Counter\nCounter(words).most_common(1)",
        "open('/etc/passwd')",
    ] {
        let outcome = session.run(code).await?;
        match outcome.ending {
            Ending::Completed(Some(value)) => println!("value: {}", value.repr),
            Ending::Completed(None) => {}
            Ending::Raised(exception) => println!("exception: {}: {}", exception.kind, exception.message),
            other => println!("ended: {other:?}"),
        }
    }
    Ok(())
}
