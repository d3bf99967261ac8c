//! `ask_llm` in programs: replies, errors, budgets, overlapping calls.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel::llm::{
    Budget, CallEnd, CallStart, Dollars, Llm, LlmLimits, Price, Prices, ProviderError, Watch,
};
use agentkernel::{Ending, Kernel, Session, Turn};
use agentkernel_tests::{Answering, builder, kernel};

fn echoing() -> Answering {
    Answering::new(|request| Ok(format!("<{}>", request.messages[0].content)))
}

fn with(llm: Llm) -> Kernel {
    builder().llm(llm).build().unwrap()
}

fn limits(change: impl FnOnce(&mut LlmLimits)) -> LlmLimits {
    let mut limits = LlmLimits::none();
    change(&mut limits);
    limits
}

/// Runs a program that must end well; gives what it printed.
fn printed(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{:#?}", outcome.ending);
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn a_reply_is_a_string_that_says_what_it_took() {
    let kernel = with(Llm::new("echo", echoing()));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm
r = ask_llm('héllo', context='data')
print(isinstance(r, str), r.model, r.cached, r.stop, r.parsed, r.usage.cost)
print(r)
print(r.usage, r.usage.total_tokens, len(r), r[:2] + '|')",
    );
    let text = "<héllo\n\n<context>\ndata\n</context>>";
    assert_eq!(
        shown,
        format!(
            "True echo False end None None\n{text}\nUsage(input_tokens={}, output_tokens={}) {} {} <h|\n",
            text.len() - 2,
            text.len(),
            2 * text.len() - 2,
            text.chars().count()
        )
    );
}

#[test]
fn options_reach_the_provider_as_they_are() {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let fake = Answering::new(move |request| {
        *keep.lock().unwrap() = Some(request.clone());
        Ok("{}".into())
    });
    let kernel = with(Llm::new("big", fake).sub_model("small").allow("third"));
    let mut session = kernel.session().start().unwrap();
    printed(
        &mut session,
        "from agentkernel import ask_llm
ask_llm('p', system='s', model='third', max_tokens=7, temperature=0.5, stop='END', schema={'type': 'object'})",
    );
    let request = seen.lock().unwrap().take().unwrap();
    assert_eq!((request.model.as_str(), request.system.as_deref()), ("third", Some("s")));
    assert_eq!((request.max_tokens, request.temperature), (7, Some(0.5)));
    assert_eq!(request.stop, ["END"]);
    assert_eq!(request.schema, Some(serde_json::json!({"type": "object"})));
    assert!(request.messages[0].content.starts_with("p\n\nAnswer with JSON"), "{:?}", request.messages);
    // Programs ask the smaller model where they name none.
    printed(&mut session, "_ = ask_llm('p')");
    let request = seen.lock().unwrap().take().unwrap();
    assert_eq!((request.model.as_str(), request.max_tokens), ("small", 8192));
}

#[test]
fn without_a_model_the_error_says_how_to_grant_one() {
    let mut session = kernel().session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm, budget, ask_llm_batch
for f in (lambda: ask_llm('x'), budget, lambda: ask_llm_batch(['x'])):
    try:
        f()
    except PermissionError as error:
        print(error)",
    );
    assert_eq!(shown.lines().count(), 3);
    for line in shown.lines() {
        assert!(line.starts_with("no model is granted to this program; grant one with `--model"), "{line}");
    }
    let kernel = with(Llm::new("echo", echoing()));
    let mut session = kernel.session().without_llm().start().unwrap();
    let outcome = session.run_blocking("import agentkernel; agentkernel.ask_llm('x')").unwrap();
    let Ending::Raised(exception) = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert_eq!(exception.kind, "PermissionError");
    // The frames are the program's alone.
    assert_eq!(exception.frames.len(), 1, "{}", exception.traceback);
}

#[test]
fn mistakes_name_what_is_wrong() {
    let kernel = with(Llm::new("echo", echoing()).sub_model("small"));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm
def tried(*args, **options):
    try:
        ask_llm(*args, **options)
    except Exception as error:
        print(type(error).__name__, error)
tried(5)
tried('')
tried('x', model='gpt-99')
tried('x', max_tokens=0)
tried('x', temperature=9)
tried('x', stop=[''])
tried('x', schema=int.__add__)
tried('x' * (17 << 20))
tried('x', system=5)",
    );
    let expected = [
        "TypeError `prompt` must be a str, not int",
        "ValueError the prompt is empty",
        "ValueError the model `gpt-99` is not granted to this program, which may ask echo, small; grant it with: [llm] models = [\"gpt-99\"]",
        "ValueError `max_tokens` must be at least 1",
        "ValueError `temperature` must be between 0 and 2",
        "ValueError `stop` must be at most 16 texts, none of them empty",
        "TypeError `schema` must be a JSON schema or a type that has one",
        "ValueError a prompt of 17825792 bytes is more than any model reads",
        "TypeError ",
    ];
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{shown}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn errors_of_providers_are_typed() {
    let fake = Answering::new(|request| {
        let mut error = ProviderError::new("the provider says 503");
        (error.status, error.attempts) = (Some(503), 4);
        error.refused = request.messages[0].content == "bad";
        Err(error)
    });
    let kernel = with(Llm::new("echo", fake));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm, ProviderError, Refused, LLMError
try:
    ask_llm('x')
except ProviderError as error:
    print(error, error.status, error.attempts, error.retried, isinstance(error, LLMError))
try:
    ask_llm('bad')
except Refused as error:
    print(error)",
    );
    assert_eq!(
        shown,
        "the provider says 503 503 4 True True\nthe model declined to answer: the provider says 503\n"
    );
}

#[test]
fn what_runs_out_is_told_before_anything_is_sent() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let fake = Answering::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok("four".into())
    });
    let llm = Llm::new("m", fake).limits(limits(|limits| limits.calls = Some(2)));
    let kernel = with(llm);
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm, budget, BudgetExceeded
ask_llm('one'), ask_llm('two')
try:
    ask_llm('three')
except BudgetExceeded as error:
    print(error.what, error, error.left.calls)
print(budget().calls, budget().tokens, budget().used['m']['calls'], budget().models)",
    );
    assert_eq!(shown, "calls no call of a model is left (`max-calls` is 2) 0\n0 None 2 ['m']\n");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn cost_and_tokens_are_set_aside_at_their_most() {
    let mut prices = Prices::default();
    prices.set("priced", Price { input: 1000.0, output: 1000.0 }).unwrap();
    let fake = || Answering::new(|_| Ok("ok".into()));
    // A dollar is a thousand tokens.
    let cost = |limit| limits(|limits| (limits.cost, limits.unpriced) = (Some(Dollars::new(limit)), false));
    let kernel = with(Llm::new("priced", fake()).allow("other").prices(prices).limits(cost(1.0)));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm, budget, BudgetExceeded
r = ask_llm('x' * 100)
print(r.usage, round(budget().cost, 6))
for options in (dict(max_tokens=800), dict(model='other')):
    try:
        ask_llm('x' * 500, **options)
    except BudgetExceeded as error:
        print(error)
print(round(budget().cost, 6))",
    );
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("Usage(input_tokens=100, output_tokens=2, cost=0.102000) 0.898"));
    assert_eq!(
        lines.next(),
        Some(
            "this call may take $1.38, and $0.8980 are left of $1.00 (`max-cost`); ask for less, or give more"
        )
    );
    assert!(lines.next().unwrap().contains("the price of `other` is not known"), "{shown}");
    assert_eq!(lines.next(), Some("0.898"));
}

#[test]
fn calls_overlap_as_far_as_may_be_and_keep_their_order() {
    let mut fake = Answering::new(|request| match request.messages[0].content.as_str() {
        "5" => Err(ProviderError::new("not five")),
        other => Ok(other.to_owned()),
    });
    fake.delay = Duration::from_millis(20);
    let most = Arc::clone(&fake.most_in_flight);
    let kernel = with(Llm::new("m", fake).limits(limits(|limits| limits.concurrency = Some(4))));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm_batch, ask_llm_async
import asyncio
print([str(r) if isinstance(r, str) else repr(r) for r in ask_llm_batch([str(n) for n in range(8)])])
print(ask_llm_batch(['a', 7, '', 'b'])[1:3])
async def main():
    return await asyncio.gather(*(ask_llm_async(str(n)) for n in range(8)), return_exceptions=True)
print([str(r) for r in asyncio.run(main())])",
    );
    assert_eq!(
        shown,
        "['0', '1', '2', '3', '4', \"ProviderError('not five')\", '6', '7']
[TypeError('`prompt` must be a str, not int'), ValueError('the prompt is empty')]
['0', '1', '2', '3', '4', 'not five', '6', '7']
"
    );
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[test]
fn schemas_are_checked_and_asked_for_once_more() {
    let fake = Answering::new(|request| {
        let again = request.messages.len() > 1;
        Ok(match request.messages[0].content.lines().next().unwrap() {
            "good" => "Here:\n```json\n{\"name\": \"Ada\", \"born\": 1815, \"tags\": [\"x\"]}\n```".into(),
            "second" if again => {
                assert!(request.messages[2].content.contains("the answer.born must be integer"));
                "{\"name\": \"Ada\", \"born\": 1815}".into()
            }
            _ => "{\"name\": \"Ada\", \"born\": \"long ago\"}".into(),
        })
    });
    let kernel = with(Llm::new("m", fake));
    let mut session = kernel.session().start().unwrap();
    let shown = printed(
        &mut session,
        "from agentkernel import ask_llm, SchemaError, ask_llm_batch
from dataclasses import dataclass, field
@dataclass
class Person:
    name: str
    born: int
    tags: list[str] = field(default_factory=list)
print(ask_llm('good', schema=Person).parsed)
print(ask_llm('second', schema=Person).parsed)
try:
    ask_llm('never', schema=Person)
except SchemaError as error:
    print(error, '|', error.reply)
schema = {'type': 'object', 'properties': {'born': {'type': 'integer', 'minimum': 1800}}, 'required': ['born']}
print(ask_llm('good', schema=schema).parsed['born'])
print([getattr(r, 'parsed', type(r).__name__) for r in ask_llm_batch(['good', 'second', 'never'], schema=Person)])",
    );
    assert_eq!(
        shown,
        "Person(name='Ada', born=1815, tags=['x'])
Person(name='Ada', born=1815, tags=[])
the answer does not follow the schema: the answer.born must be integer, not \"long ago\" | {\"name\": \"Ada\", \"born\": \"long ago\"}
1815
[Person(name='Ada', born=1815, tags=['x']), Person(name='Ada', born=1815, tags=[]), 'SchemaError']
"
    );
}

#[test]
fn budgets_are_shared_and_turns_have_their_own() {
    let kernel = with(Llm::new("m", echoing()));
    let tenant = Budget::new(limits(|limits| limits.calls = Some(3)));
    let mut one = kernel.session().budget(tenant.child(LlmLimits::none())).start().unwrap();
    let mut two = kernel.session().budget(tenant.child(LlmLimits::none())).start().unwrap();
    let code = "from agentkernel import ask_llm\n_ = ask_llm('x')";
    let outcome = one.run_blocking(code).unwrap();
    assert_eq!(outcome.usage.llm.total().calls, 1);
    let turn = Turn::new("ask_llm('x'), ask_llm('y')").llm_limits(limits(|limits| limits.calls = Some(1)));
    let outcome = one.run_blocking(turn).unwrap();
    assert!(
        matches!(outcome.ending, Ending::Raised(exception) if exception.kind.ends_with("BudgetExceeded"))
    );
    assert_eq!(outcome.usage.llm.models["m"].calls, 1);
    printed(&mut two, code);
    let outcome = two.run_blocking(code).unwrap();
    assert!(matches!(outcome.ending, Ending::Raised(_)));
    assert_eq!(outcome.usage.llm.total().calls, 0);
    assert_eq!(one.budget().unwrap().usage().total().calls, 2);
    assert_eq!(tenant.usage().total().calls, 3);
}

#[test]
fn a_call_ends_with_its_turn_and_counts() {
    let mut fake = echoing();
    fake.delay = Duration::from_secs(60);
    let kernel = with(Llm::new("m", fake));
    let mut limits = agentkernel::Limits::default();
    limits.timeout = Some(Duration::from_millis(300));
    let budget = Budget::new(LlmLimits::default());
    let mut session = kernel.session().limits(limits).budget(budget.clone()).start().unwrap();
    let outcome = session.run_blocking("from agentkernel import ask_llm\nask_llm('x')").unwrap();
    assert_eq!(outcome.ending, Ending::TimedOut);
    // Nobody knows what the provider did: all that was set aside is counted.
    assert_eq!((budget.in_flight(), budget.usage().total().calls), (0, 1));
    assert!(budget.usage().total().output_tokens == 8192);
}

#[test]
fn a_watch_sees_every_call_begin_and_end() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl Watch for Log {
        fn started(&self, call: CallStart<'_>) {
            let prompt = &call.request.messages[0].content;
            self.0.lock().unwrap().push(format!("{} {prompt}", call.number));
        }
        fn ended(&self, call: CallEnd<'_>) {
            let text = match call.result {
                Some(Ok(answer)) => answer.text.clone(),
                Some(Err(error)) => error.to_string(),
                None => "given up".into(),
            };
            self.0.lock().unwrap().push(format!("{} {text}", call.number));
        }
    }
    let log = Arc::new(Log::default());
    let kernel = with(Llm::new("m", echoing()));
    let mut session = kernel.session().watch(log.clone()).start().unwrap();
    printed(&mut session, "from agentkernel import ask_llm\n_ = ask_llm('a'), ask_llm('b')");
    assert_eq!(*log.0.lock().unwrap(), ["1 a", "1 <a>", "2 b", "2 <b>"]);
}
