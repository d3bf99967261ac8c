//! A server that speaks the OpenAI protocol and answers by rules, so that nothing but the way to it is
//! measured.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long the model `slow` takes.
pub const SLOW: Duration = Duration::from_millis(50);

/// A server on a thread of its own, which ends with the process.
pub struct Server {
    address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Server {
    pub fn start() -> Result<Self> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        thread::Builder::new().name("models".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let _ = sender.send(listener.local_addr()?);
                serve(listener, count).await
            })
        })?;
        let address = receiver.recv().context("the server of models did not start")?;
        Ok(Server { address, served })
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Requests that were answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, served: Arc<AtomicU64>) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let handle = service_fn(move |request| {
                served.fetch_add(1, Ordering::Relaxed);
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            // A client that goes away is no error of the server's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = request["model"].as_str().unwrap_or_default();
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default();
    if model == "slow" {
        tokio::time::sleep(SLOW).await;
    }
    let steps = messages.iter().filter(|message| message["role"] == "assistant").count();
    let text = match model {
        "needle" => NEEDLE[steps.min(NEEDLE.len() - 1)].to_owned(),
        "entries" => ENTRIES[steps.min(ENTRIES.len() - 1)].to_owned(),
        "reader" if last.contains("[entry]") => labels(last),
        "reader" => number(last),
        _ => "Yes.".to_owned(),
    };
    let (input, output) = (body.len() / 4, text.len().div_ceil(4));
    let answer = json!({
        "id": "1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    });
    let response = Response::builder().header("content-type", "application/json");
    response.body(Full::new(answer.to_string().into())).expect("the response is well formed")
}

/// What a root model says that looks for one line in a large text. The programs do for a `str` as for a
/// lazy context.
const NEEDLE: [&str; 2] = [
    "```repl\nat = context.find('The magic number is')\nprint(len(context), at)\n```",
    "```repl\nfound = llm_query('Which number is it? ' + context[at - 200:at + 200])\nanswer['content'] = found\nanswer['ready'] = True\n```",
];

/// What a root model says that lets others label thousands of entries, and counts.
const ENTRIES: [&str; 2] = [
    "```repl\nlines = str(context).splitlines()\nparts = ['\\n'.join(lines[n:n + 100]) for n in range(0, len(lines), 100)]\nprint(len(lines), len(parts))\n```",
    "```repl\nfrom collections import Counter\nreplies = llm_query_batched(['Label each [entry] as good, bad or neither, one a line:\\n' + part for part in parts])\ncounts = Counter(word for reply in replies for word in reply.split())\nanswer['content'] = ' '.join(f'{label}={counts[label]}' for label in ('good', 'bad', 'neither'))\nanswer['ready'] = True\n```",
];

/// The number in a prompt, as a model would read it.
fn number(prompt: &str) -> String {
    let after = prompt.split("magic number is ").nth(1).unwrap_or_default();
    after.chars().take_while(char::is_ascii_digit).collect()
}

/// A label for each entry of a prompt.
fn labels(prompt: &str) -> String {
    let entries = prompt.lines().filter(|line| line.starts_with("[entry]"));
    let label = |line: &str| match line {
        line if line.contains("love") => "good",
        line if line.contains("hate") => "bad",
        _ => "neither",
    };
    entries.map(label).collect::<Vec<_>>().join("\n")
}
