"""Sessions that answer a question step by step, and the names that their programs use without import."""

import json as _json
import sys as _sys

from agentkernel import _calls, _llm
from agentkernel._llm import LLMError, ask_llm, ask_llm_async, ask_llm_batch, budget

_RLM = 0xFF000300


class RLMError(LLMError):
    """A child session gave no answer."""


RLMError.__module__ = "agentkernel"


class _Answer(dict):
    """Where the answer goes: its `content`, and `ready` once it is final."""

    def __init__(self):
        super().__init__(content="", ready=False)
        self.how = "answer"


answer = _Answer()

# A value that the program gave the name `answer`, in place of filling it.
_other = None


def FINAL(content):
    """Give the answer."""
    answer["content"] = content
    answer["ready"] = True
    answer.how = "final"


def FINAL_VAR(name):
    """Give the value of a variable as the answer."""
    if isinstance(name, str):
        found = _main().get(name, _other if name == "answer" else None)
        if found is None:
            raise NameError(f"there is no variable {name!r}; SHOW_VARS() lists them", name=name)
        name = found
    answer["content"] = name
    answer["ready"] = True
    answer.how = "final-var"


def SHOW_VARS():
    """The variables of the program, with their types."""
    shown = {
        name: type(value).__name__ for name, value in _main().items() if name[:1] != "_" and name not in _NAMES
    }
    return f"Available variables: {shown}" if shown else "No variables yet."


def llm_query(prompt, model=None):
    """Ask a model and give its answer, or a text that begins with "Error:"."""
    try:
        return ask_llm(str(prompt), model=model)
    except (LLMError, ValueError, TypeError, PermissionError) as error:
        return f"Error: {error}"


def llm_query_batched(prompts, model=None):
    """Ask a model many things at the same time; as `llm_query`, in the order of the prompts."""
    replies = ask_llm_batch([str(prompt) for prompt in prompts], model=model)
    return [reply if isinstance(reply, str) else f"Error: {reply}" for reply in replies]


def rlm(question, *, context=None, model=None, max_calls=None, max_tokens=None, max_cost=None, max_time=None):
    """Have a question answered by a session of its own, which sees only `context`: text, a part of this
    session's context, or several of these. It may ask at most half of what is left here, or what the
    arguments say: `max_time` in seconds, `max_cost` in US dollars."""
    request = _request(question, context, model, max_calls, max_tokens, max_cost, max_time)
    try:
        return _child(_calls.call(_RLM, *request))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


async def rlm_async(question, *, context=None, model=None, max_calls=None, max_tokens=None, max_cost=None, max_time=None):
    """As `rlm`; sessions that are gathered run at the same time."""
    request = _request(question, context, model, max_calls, max_tokens, max_cost, max_time)
    try:
        return _child(await _calls.start(_RLM, *request))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


def rlm_batch(questions, *, contexts=None, **options):
    """Have many questions answered at the same time, each by a session of its own; gives the answers in
    the order of the questions, and in place of one that failed its exception."""
    questions = list(questions)
    contexts = [None] * len(questions) if contexts is None else list(contexts)
    if len(contexts) != len(questions):
        raise ValueError(f"{len(questions)} questions have {len(contexts)} contexts")

    async def all_of_them():
        import asyncio

        asked = (rlm_async(question, context=context, **options) for question, context in zip(questions, contexts))
        return await asyncio.gather(*asked, return_exceptions=True)

    return _run(all_of_them)


def rlm_query(prompt, model=None):
    """Have a prompt answered by a session of its own, or by a model where no more sessions may be started;
    the answer, or a text that begins with "Error:"."""
    if budget().depth == 0:
        return llm_query(prompt, model)
    try:
        question, context = _as_question(prompt)
        return rlm(question, context=context, model=model)
    except (LLMError, ValueError, TypeError, PermissionError) as error:
        return f"Error: {error}"


def rlm_query_batched(prompts, model=None):
    """As `rlm_query` for many prompts at the same time, in their order."""
    if budget().depth == 0:
        return llm_query_batched(prompts, model)

    async def one(prompt):
        try:
            question, context = _as_question(prompt)
            return await rlm_async(question, context=context, model=model)
        except (LLMError, ValueError, TypeError, PermissionError) as error:
            return f"Error: {error}"

    async def all_of_them():
        import asyncio

        return await asyncio.gather(*map(one, prompts))

    return _run(all_of_them)


# A prompt longer than this is data, with a question in it.
_LONG = 4000


def _as_question(prompt):
    prompt = str(prompt)
    if len(prompt) <= _LONG:
        return prompt, None
    return f"Do what the text in `context` asks for. It begins so:\n{prompt[:1000]}", prompt


def _run(coroutine):
    """Run a coroutine, also where a loop runs already: in a program with `await` at its top."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    raise RuntimeError("within a coroutine, gather calls of `rlm_async` instead")


def _request(question, context, model, max_calls, max_tokens, max_cost, max_time):
    if not isinstance(question, str) or not question.strip():
        raise TypeError("`question` must be a str that is not empty")
    if max_cost is not None and max_cost < 0 or max_time is not None and max_time < 0:
        raise ValueError("`max_cost` and `max_time` must not be negative")
    parts = [] if context is None else context if _llm._is_many(context) else [context]
    wires, texts = [], [question.encode("utf-8", "replace")]
    for part in parts:
        wire = getattr(part, "_wire", None)
        if wire is not None:
            wires.append({"view": wire().hex()})
        else:
            text = str(part).encode("utf-8", "replace")
            wires.append({"text": len(text)})
            texts.append(text)
    options = {
        "question": len(texts[0]), "context": wires, "model": model, "calls": max_calls, "tokens": max_tokens,
        "cost": max_cost, "time": max_time,
    }
    options = {name: value for name, value in options.items() if value is not None}
    return _json.dumps(options).encode(), b"".join(texts)


def _child(answer):
    told = _json.loads(answer)
    reply = _llm.Reply(told["content"])
    reply.usage = _llm.Usage(told)
    reply.model = told["model"]
    reply.stop = "limit" if told["best_effort"] else "end"
    return reply


def _failed(failure):
    if failure.kind == "rlm":
        return RLMError(failure.message)
    return _llm._failed(failure)


def _main():
    return _sys.modules["__main__"].__dict__


_NAMES = (
    "answer", "FINAL", "FINAL_VAR", "SHOW_VARS", "llm_query", "llm_query_batched", "rlm_query",
    "rlm_query_batched", "rlm", "rlm_async", "rlm_batch", "ask_llm", "ask_llm_async", "ask_llm_batch", "budget",
    "context",
)


def _begin(has_context):
    """Make the names known to the program without import. No question is answered yet."""
    import builtins

    global _other
    _other = None
    answer.clear()
    answer.update(content="", ready=False)
    answer.how = "answer"
    for name in _NAMES:
        if name != "context":
            setattr(builtins, name, globals()[name])
    if has_context:
        from agentkernel import context

        builtins.context = context


# Characters of an answer.
_LONGEST = 1_000_000


def _state():
    """The answer as it stands. Names of ours that the program has bound are ours again."""
    global _other
    main = _main()
    own = main.get("answer")
    if own is not None and own is not answer:
        if isinstance(own, dict) and "content" in own:
            # It filled a dictionary of its own.
            answer["content"] = own["content"]
            answer["ready"] = own.get("ready", False)
        else:
            _other = own
    for name in _NAMES:
        main.pop(name, None)
    problem = None
    try:
        content = str(answer.get("content", "")).encode("utf-8", "replace").decode()
        ready = bool(answer.get("ready"))
        if len(content) > _LONGEST:
            problem = f"an answer may have {_LONGEST:,} characters, and this one has {len(content):,}"
    except BaseException as error:
        problem = f"its content has no text: {type(error).__name__}"
    if problem:
        answer["ready"] = ready = False
        content = ""
    return {"ready": ready, "content": content, "how": str(answer.how), "problem": problem}
