//! What models are not shown: that it reaches no wire, cache, cassette or trajectory, and comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel::llm::{
    Budget, CallEnd, CallStart, HttpOptions, Llm, LlmLimits, ModelRequest, OpenAi, ResponseCache, Watch,
};
use agentkernel::rlm::{Rlm, Trajectory};
use agentkernel::{Kernel, Privacy, Recording, Replaying};
use agentkernel_tests::{Answering, builder, limits, value};
use serde_json::{Value, json};

#[allow(dead_code)]
#[path = "llm_providers/server.rs"]
mod server;
use server::{Reply, Server};

const EMAIL: &str = "ada@example.com";
const CARD: &str = "4111 1111 1111 1111";
const KEY: &str = "sk-proj-abcdefghij0123456789";
const SECRETS: [&str; 3] = [EMAIL, CARD, KEY];

fn reply(text: &str) -> Reply {
    Reply::json(&json!({
        "model": "m", "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5}
    }))
}

fn over_http(server: &Server) -> Llm {
    let http = HttpOptions::new().timeout(Duration::from_secs(20)).retries(0);
    let openai = OpenAi::builder().base_url(server.url("/v1")).key("k").http(http).build().unwrap();
    Llm::new("m", openai)
}

fn kernel(llm: Llm) -> Kernel {
    builder().llm(llm).privacy(Privacy::new().pattern("employee", r"\bE-\d{6}\b").unwrap()).build().unwrap()
}

/// A kernel whose model is a function of the last message.
fn answering(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Kernel {
    kernel(Llm::new("m", Answering::new(move |request| Ok(reply(&request.messages.last().unwrap().content)))))
}

fn repr(kernel: &Kernel, code: &str) -> String {
    let outcome = kernel.session().limits(limits()).start().unwrap().run_blocking(code).unwrap();
    value(&outcome).repr.clone()
}

#[track_caller]
fn shows_nothing(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn nothing_that_is_hidden_reaches_the_wire() {
    let server = Server::start([
        reply("Dear <EMAIL_1>, your card is <CARD_1>."),
        reply("EMAIL_1 and `<KEY_1>`"),
        reply("E: <EMPLOYEE_1>"),
    ]);
    let kernel = kernel(over_http(&server));
    let code = format!(
        "
from agentkernel import ask_llm, ask_llm_batch
one = ask_llm('Write to {EMAIL} about {CARD}.', system='You are {EMAIL}.', context=['key {KEY}'])
two = ask_llm('Again, {EMAIL}', stop=['{KEY}'])
three, = ask_llm_batch(['E-123456 has {CARD}'])
print(one, two, three, sep='\\n')
one.usage.input_tokens"
    );
    let outcome = kernel.session().limits(limits()).start().unwrap().run_blocking(code).unwrap();
    assert_eq!(value(&outcome).repr, "10");
    assert_eq!(
        String::from_utf8_lossy(&outcome.stdout),
        format!("Dear {EMAIL}, your card is {CARD}.\n{EMAIL} and `{KEY}`\nE: E-123456\n")
    );
    let requests = server.requests();
    let bodies: Vec<String> = requests.iter().map(|request| request.body.to_string()).collect();
    bodies.iter().for_each(|body| shows_nothing(body));
    assert!(
        bodies[0].contains("Write to <EMAIL_1> about <CARD_1>.") && bodies[0].contains("You are <EMAIL_1>.")
    );
    assert!(bodies[0].contains("key <KEY_1>"), "{}", bodies[0]);
    assert!(bodies[1].contains("Again, <EMAIL_1>") && bodies[1].contains("[\"<KEY_1>\"]"), "{}", bodies[1]);
    assert!(bodies[2].contains("<EMPLOYEE_1> has <CARD_1>"));
    assert_eq!(outcome.usage.llm.models["m"].hidden, 4 + 2 + 2);
}

#[test]
fn tokens_are_those_of_one_session() {
    let kernel = answering(|prompt| prompt.to_owned());
    let code = "
from agentkernel import ask_llm
ask_llm('{}')
[ask_llm('who is EMAIL_1? <EMAIL_2>'), ask_llm('b@example.com') == 'b@example.com']";
    // What a program makes up is its own text, and no other session's value.
    for mail in ["a@example.com", "c@example.com"] {
        let found = repr(&kernel, &code.replace("{}", mail));
        assert_eq!(found, "['who is EMAIL_1? <EMAIL_2>', True]");
    }
    // A model that makes up a token that there is none for.
    let inventive = answering(|_| "<EMAIL_1> <EMAIL_7>".to_owned());
    assert_eq!(repr(&inventive, "from agentkernel import ask_llm\nask_llm('x')"), "'<EMAIL_1> <EMAIL_7>'");
}

#[test]
fn answers_in_json_are_json() {
    let kernel = answering(|_| r#"{"who": "<EMAIL_1>", "key": "<KEY_1>"}"#.to_owned());
    let code = format!(
        "
from agentkernel import ask_llm
key = '-----BEGIN PRIVATE KEY-----\\nMIIEow\\n-----END PRIVATE KEY-----'
schema = {{'type': 'object', 'properties': {{'who': {{'type': 'string', 'const': '{EMAIL}'}}, 'key': {{'type': 'string'}}}}}}
reply = ask_llm('{EMAIL}: ' + key, schema=schema)
reply.parsed == {{'who': '{EMAIL}', 'key': key}}"
    );
    assert_eq!(repr(&kernel, &code), "True");
}

#[tokio::test]
async fn streamed_text_has_values_again() {
    let event = |text: &str| json!({"model": "m", "choices": [{"delta": {"content": text}}]});
    let server = Server::start([Reply::events(
        &[event("Dear <EM"), event("AIL_1>, or EMA"), event("IL_1"), event(" & co")],
        "data: [DONE]\n\n",
    )]);
    let llm = over_http(&server).privacy(Privacy::new());
    let mut pieces = Vec::new();
    let mut on_text = |piece: &str| pieces.push(piece.to_owned());
    let budget = Budget::new(LlmLimits::none());
    let request = ModelRequest::new("m", format!("to {EMAIL}"), 100);
    let answer = llm.ask(&budget, request, Some(&mut on_text)).await.unwrap();
    assert_eq!(answer.text, format!("Dear {EMAIL}, or {EMAIL} & co"));
    assert_eq!(pieces.concat(), answer.text);
    assert!(pieces.len() > 2, "{pieces:?}");
    assert_eq!(answer.hidden, 1);
    shows_nothing(&server.request().body.to_string());
}

#[tokio::test]
async fn what_is_sent_is_what_is_metered() {
    let key = "A1".repeat(5000);
    let llm = Llm::new("m", Answering::new(|_| Ok("ok".into()))).privacy(Privacy::new());
    let mut limits = LlmLimits::none();
    limits.input_tokens = Some(200);
    let budget = Budget::new(limits);
    let request = ModelRequest::new("m", format!("Bearer {key}"), 100);
    llm.ask(&budget, request, None).await.unwrap();
    let usage = budget.usage().total();
    assert_eq!((usage.input_tokens, usage.hidden), ("Bearer <KEY_1>".len() as u64, 1));
}

#[test]
fn the_cache_has_tokens_alone_and_serves_other_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let prompts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&prompts);
    let answering = Answering::new(move |request| {
        seen.lock().unwrap().push(request.messages[0].content.clone());
        Ok("Hello <EMAIL_1>".into())
    });
    let kernel = kernel(Llm::new("m", answering).cache(ResponseCache::open(&path).unwrap()));
    for mail in [EMAIL, "bob@example.com"] {
        let code = format!("from agentkernel import ask_llm\nstr(ask_llm('Greet {mail}'))");
        assert_eq!(repr(&kernel, &code), format!("'Hello {mail}'"));
    }
    assert_eq!(*prompts.lock().unwrap(), ["Greet <EMAIL_1>"]);
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        shows_nothing(&String::from_utf8_lossy(&bytes));
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Watch for Seen {
    fn started(&self, call: CallStart<'_>) {
        self.0.lock().unwrap().push(call.request.messages[0].content.clone());
    }

    fn ended(&self, call: CallEnd<'_>) {
        let answer = call.result.unwrap().unwrap();
        self.0.lock().unwrap().push(format!("{} {}", answer.text, answer.hidden));
    }
}

#[test]
fn whoever_watches_sees_what_is_sent() {
    let kernel = answering(|prompt| format!("re: {prompt}"));
    let seen = Arc::new(Seen::default());
    let code = format!("from agentkernel import ask_llm\nstr(ask_llm('to {EMAIL}'))");
    let outcome = kernel.session().watch(Arc::clone(&seen) as _).start().unwrap().run_blocking(code).unwrap();
    assert_eq!(value(&outcome).repr, format!("'re: to {EMAIL}'"));
    assert_eq!(*seen.0.lock().unwrap(), ["to <EMAIL_1>", "re: to <EMAIL_1> 1"]);
}

#[test]
fn cassettes_have_tokens_and_replays_have_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.jsonl");
    let code = format!(
        "
from agentkernel import ask_llm, ask_llm_batch
print(ask_llm('to {EMAIL} and {KEY}'), *ask_llm_batch(['{CARD}', 'b@example.com']))"
    );
    let recording = Recording::create(&path).unwrap();
    let live = answering(|prompt| format!("re: {prompt}"));
    let first = live.session().record(&recording).start().unwrap().run_blocking(code.as_str()).unwrap();
    recording.finish().unwrap();
    shows_nothing(&std::fs::read_to_string(&path).unwrap());

    let replaying = Replaying::open(&path).unwrap();
    let again = kernel(replaying.llm().unwrap()).session().replay(&replaying).start().unwrap();
    let mut again = again;
    let second = again.run_blocking(code.as_str()).unwrap();
    replaying.finish().unwrap();
    let expected = format!("re: to {EMAIL} and {KEY} re: {CARD} re: b@example.com\n");
    assert_eq!(String::from_utf8_lossy(&first.stdout), expected);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(second.usage.llm.models["m"].hidden, first.usage.llm.models["m"].hidden);
}

#[test]
fn runs_hide_in_every_step_and_in_their_trajectory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.jsonl");
    let prompts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&prompts);
    let llm = Llm::new(
        "m",
        Answering::new(move |request: &ModelRequest| {
            let all: Vec<&str> = request.messages.iter().map(|message| message.content.as_str()).collect();
            seen.lock().unwrap().push(format!("{:?} {all:?}", request.system));
            Ok(match all.len() {
            1 if all[0].contains("shorten") => "<EMAIL_1> in short".into(),
            1 => "```python\nprint('mail of <EMAIL_1>')\nprint(context)\nx = ask_llm('shorten ' + str(context))\n```".into(),
            _ => "```python\nFINAL(f'{x} <EMAIL_1>')\n```".into(),
        })
        }),
    );
    let kernel = kernel(llm);
    let context =
        agentkernel::Context::builder().text("notes.txt", format!("{EMAIL} {CARD} {KEY}")).build().unwrap();
    let outcome = Rlm::builder(&kernel)
        .context(context)
        .trajectory(Trajectory::create(&path).unwrap())
        .build()
        .unwrap()
        .ask_blocking(&format!("Who is {EMAIL}?"))
        .unwrap();
    assert_eq!(outcome.answer.as_deref(), Some(format!("{EMAIL} in short {EMAIL}").as_str()));
    let prompts = prompts.lock().unwrap();
    assert_eq!(prompts.len(), 3);
    prompts.iter().for_each(|prompt| shows_nothing(prompt));
    assert!(prompts[2].contains("mail of <EMAIL_1>"), "{}", prompts[2]);
    let trajectory = std::fs::read_to_string(&path).unwrap();
    shows_nothing(&trajectory);
    let last: Value = serde_json::from_str(trajectory.lines().last().unwrap()).unwrap();
    assert!(last["totals"]["m"]["hidden"].as_u64().unwrap() >= 5, "{last}");
}

#[test]
fn a_session_that_hides_too_much_sends_nothing() {
    let kernel = answering(|prompt| prompt.len().to_string());
    let code = "
from agentkernel import ask_llm
first = ask_llm('a@b.de')
try:
    ask_llm(' '.join(f'x{n}@b.de' for n in range(100_001)))
except ValueError as error:
    print(error)
ask_llm('a@b.de') == '9'";
    let outcome = kernel.session().start().unwrap().run_blocking(code).unwrap();
    assert_eq!(value(&outcome).repr, "True");
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("was not sent"));
}

#[test]
fn large_batches_are_refused() {
    let kernel = answering(|_| String::new());
    // The module would ask in parts.
    let code = "
import json
from agentkernel import _calls
try:
    _calls.call(0xFF000102, json.dumps([{'parts': [15 << 20]}] * 5).encode(), b'@' * (75 << 20))
except _calls.Failure as error:
    print(error.value.message)";
    let outcome = kernel.session().start().unwrap().run_blocking(code).unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(said.contains("ask fewer"), "{said} {:?}", outcome.ending);
}

#[test]
fn privacy_without_a_model_is_refused() {
    let error = builder().privacy(Privacy::new()).build().err().unwrap();
    assert!(error.to_string().contains("no effect"), "{error}");
}
