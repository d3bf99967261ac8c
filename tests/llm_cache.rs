//! Answers that are kept: what hits, what misses, what goes, and what is wrong with the file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentkernel::ErrorKind;
use agentkernel::llm::{
    Budget, Completing, Completion, Llm, LlmLimits, Message, ModelRequest, OnText, Provider, ProviderError,
    ResponseCache, Role, StopReason, Tokens,
};
use agentkernel_tests::builder;

/// Answers with the number of the call, and says how many there were.
#[derive(Clone, Default)]
struct Counting {
    calls: Arc<AtomicU32>,
    place: &'static str,
}

impl Provider for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn identity(&self) -> String {
        self.place.to_owned()
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            let prompt = request.messages[0].content.as_str();
            let stop = match prompt {
                "fail" => return Err(ProviderError::new("it is down")),
                "refuse" => StopReason::Refusal,
                "long" => StopReason::MaxTokens,
                _ => StopReason::End,
            };
            let tokens = Tokens { input: 10, output: 5 };
            let text = format!("{call} {}", "x".repeat(prompt.parse().unwrap_or(0)));
            Ok(Completion { text, model: request.model.clone(), tokens, stop })
        })
    }
}

impl Counting {
    fn llm(&self, path: &Path) -> Llm {
        self.with(ResponseCache::open(path).unwrap())
    }

    fn with(&self, cache: ResponseCache) -> Llm {
        Llm::new("m", self.clone()).allow("other").cache(cache)
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

fn unlimited() -> Budget {
    Budget::new(LlmLimits::none())
}

fn request(prompt: &str) -> ModelRequest {
    ModelRequest::new("m", prompt, 0)
}

async fn text(llm: &Llm, request: ModelRequest) -> (String, bool) {
    let answer = llm.ask(&unlimited(), request, None).await.unwrap();
    (answer.text.trim().to_owned(), answer.cached)
}

#[tokio::test]
async fn the_same_request_is_sent_once_and_costs_nothing_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let counting = Counting::default();
    assert_eq!(text(&counting.llm(&path), request("a")).await, ("1".into(), false));
    // Another process, as far as it matters.
    let llm = counting.llm(&path);
    let mut limits = LlmLimits::none();
    limits.calls = Some(0);
    let budget = Budget::new(limits);
    let mut shown = String::new();
    let mut on_text = |piece: &str| shown += piece;
    let answer = llm.ask(&budget, request("a"), Some(&mut on_text)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.cached), ("1 ", true));
    assert_eq!((answer.tokens, answer.cost.unwrap().get()), (Tokens { input: 10, output: 5 }, 0.0));
    assert_eq!(shown, "1 ");
    let usage = budget.usage().total();
    assert_eq!((usage.calls, usage.cached, usage.input_tokens), (0, 1, 0));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn whatever_shapes_the_answer_is_part_of_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let counting = Counting::default();
    let llm = counting.llm(&path);
    let changes: Vec<fn(&mut ModelRequest)> = vec![
        |_| {},
        |request| request.model = "other".into(),
        |request| request.system = Some(String::new()),
        |request| request.system = Some("be brief".into()),
        |request| request.messages[0].content.push(' '),
        |request| {
            request.messages.push(Message { role: Role::Assistant, content: "a".into() });
            request.messages.push(Message { role: Role::User, content: "b".into() });
        },
        |request| request.max_tokens = 100,
        |request| request.temperature = Some(0.0),
        |request| request.temperature = Some(1.0),
        |request| request.stop = vec!["\n".into()],
        |request| request.schema = Some(serde_json::json!({"type": "object"})),
    ];
    for (number, change) in (1..).zip(&changes) {
        let mut asked = request("a");
        change(&mut asked);
        assert_eq!(text(&llm, asked.clone()).await, (number.to_string(), false));
        assert_eq!(text(&llm, asked).await, (number.to_string(), true));
    }
    // Elsewhere, the same request is another.
    let elsewhere = Counting { place: "elsewhere", ..counting.clone() };
    assert_eq!(text(&elsewhere.llm(&path), request("a")).await, ((changes.len() + 1).to_string(), false));
}

#[tokio::test]
async fn how_much_was_left_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let counting = Counting::default();
    let llm = counting.llm(&directory.path().join("answers.db"));
    let mut limits = LlmLimits::none();
    limits.output_tokens = Some(1000);
    let little = || Budget::new(limits);
    llm.ask(&little(), request("a"), None).await.unwrap();
    assert!(text(&llm, request("a")).await.1, "it ended by itself");
    assert!(!llm.ask(&little(), request("long"), None).await.unwrap().cached);
    assert!(!text(&llm, request("long")).await.1, "it was cut because little was left");
    assert!(text(&llm, request("long")).await.1, "it was cut because it may be no longer");
}

#[tokio::test]
async fn errors_and_refusals_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let counting = Counting::default();
    let llm = counting.llm(&directory.path().join("answers.db"));
    for prompt in ["fail", "refuse", "fail", "refuse"] {
        llm.ask(&unlimited(), request(prompt), None).await.unwrap_err();
    }
    assert_eq!(counting.calls(), 4);
}

#[tokio::test]
async fn answers_go_when_they_are_too_old_or_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let counting = Counting::default();
    let cache = ResponseCache::open(directory.path().join("age.db")).unwrap();
    let llm = counting.with(cache.clone().max_age(Duration::from_millis(50)));
    text(&llm, request("a")).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(!text(&llm, request("a")).await.1);
    assert!(text(&counting.with(cache), request("a")).await.1);

    let path = directory.path().join("size.db");
    let llm = counting.with(ResponseCache::open(&path).unwrap().max_bytes(100_000));
    let prompts: Vec<String> = (0..20).map(|number| format!("{}", 10_000 + number)).collect();
    for prompt in &prompts {
        text(&llm, request(prompt)).await;
        // The first one stays in use.
        assert!(text(&llm, request(&prompts[0])).await.1);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(text(&llm, request(&prompts[19])).await.1);
    assert!(!text(&llm, request(&prompts[1])).await.1);
    // What is larger than all room is not kept.
    for _ in 0..2 {
        assert!(!text(&llm, request("200000")).await.1);
    }
    drop(llm);
    assert!(std::fs::metadata(&path).unwrap().len() < 400_000);
}

#[test]
fn a_file_that_is_no_cache_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let error = ResponseCache::open(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        error.to_string()
    };
    let path = directory.path().join("text");
    std::fs::write(&path, "something dear to somebody".repeat(100)).unwrap();
    assert!(refused(&path).contains("not a database"));
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("something dear"));
    refused(&directory.path().join("missing/answers.db"));
    refused(directory.path());

    let path = directory.path().join("damaged.db");
    ResponseCache::open(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    refused(&path);
}

#[test]
fn a_cache_that_fails_while_in_use_does_not_stop_a_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let counting = Counting::default();
    let llm = counting.llm(&path);
    // Whatever lies there now is no database.
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = std::fs::OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xA5; 16384], 0).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(!runtime.block_on(text(&llm, request("a"))).1);
}

#[test]
fn programs_see_it_and_many_at_once_can_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let counting = Counting::default();
    let kernels = [0, 1].map(|_| builder().llm(counting.llm(&path)).build().unwrap());
    let code = "from agentkernel import ask_llm_batch, budget
replies = ask_llm_batch([f'question {n}' for n in range(100)])
print(sum(reply.cached for reply in replies), replies[7], budget().used['m']['cached'])
";
    let run = |kernel: &agentkernel::Kernel| {
        let outcome = kernel.session().start().unwrap().run_blocking(code).unwrap();
        String::from_utf8(outcome.stdout).unwrap()
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> =
            kernels.iter().cycle().take(8).map(|kernel| scope.spawn(|| run(kernel))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(all.len(), 8);
    assert!(run(&kernels[0]).starts_with("100 "), "all are there now");
    let before = counting.calls();
    assert!(run(&kernels[1]).ends_with(" 100\n"));
    assert_eq!(counting.calls(), before);
}
