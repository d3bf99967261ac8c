"""Asking models, within what was granted."""

import json as _json

from agentkernel import _calls

_ASK = 0xFF000100
_BUDGET = 0xFF000101
_BATCH = 0xFF000102


class LLMError(Exception):
    """A model was not asked, or gave no answer that serves."""


class BudgetExceeded(LLMError):
    """The call could have taken more than is left. `what` ran out; `left` says what there is of everything."""

    def __init__(self, message, what=None):
        super().__init__(message)
        self.what = what

    @property
    def left(self):
        return budget()


class ProviderError(LLMError):
    """The provider gave no answer: its HTTP `status`, if there was one, and how many `attempts` were made."""

    def __init__(self, message, status=None, attempts=1):
        super().__init__(message)
        self.status = status
        self.attempts = attempts

    @property
    def retried(self):
        return self.attempts > 1


class Refused(LLMError):
    """The provider or the model declined to answer."""


class SchemaError(LLMError, ValueError):
    """The answer does not follow the schema, asked twice; `reply` is the last answer."""

    def __init__(self, message, reply=None):
        super().__init__(message)
        self.reply = reply


for _class in (LLMError, BudgetExceeded, ProviderError, Refused, SchemaError):
    _class.__module__ = "agentkernel"


class Usage:
    """What a call took."""

    __slots__ = ("input_tokens", "output_tokens", "cost")

    def __init__(self, about):
        self.input_tokens = about["input_tokens"]
        self.output_tokens = about["output_tokens"]
        self.cost = about["cost"]

    @property
    def total_tokens(self):
        return self.input_tokens + self.output_tokens

    def __repr__(self):
        cost = "" if self.cost is None else f", cost={self.cost:.6f}"
        return f"Usage(input_tokens={self.input_tokens}, output_tokens={self.output_tokens}{cost})"


class Reply(str):
    """A model's answer: a string that also says what it took (`usage`), which `model` gave it, whether it
    came from a cache (`cached`), why it ended (`stop`: "end" or "max-tokens"), and with a schema its value
    (`parsed`)."""

    usage = None
    model = None
    cached = False
    stop = "end"
    parsed = None


Reply.__module__ = "agentkernel"


class Budget:
    """What is left of what models may be asked: `calls`, `tokens`, `input_tokens`, `output_tokens`, `cost`
    in US dollars, `depth`, `time` in seconds; None where there is no limit. `models` are those that may be
    asked, `used` is what this turn has asked, by model."""

    __slots__ = ("calls", "tokens", "input_tokens", "output_tokens", "cost", "depth", "time", "models", "used")

    def __init__(self, report):
        for name, value in report["left"].items():
            setattr(self, name, value)
        self.models = report["models"]
        self.used = {
            model: {key.replace("-", "_"): value for key, value in usage.items()}
            for model, usage in report["used"]["models"].items()
        }

    def __repr__(self):
        parts = (f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Budget({', '.join(parts)})"


Budget.__module__ = "agentkernel"


def budget():
    """What is left of what models may be asked."""
    try:
        return Budget(_json.loads(_calls.call(_BUDGET, b"", b"")))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


def ask_llm(prompt, *, system=None, model=None, max_tokens=None, temperature=None, stop=None, schema=None, context=None):
    """Ask a model and wait for its answer, a `Reply`: a str with `usage`, `model`, `cached` and `parsed`.

    `context` is text, or several texts, that go with the prompt. With `schema`, a JSON schema or a
    dataclass, the answer's JSON is checked and its value is in `parsed`; a model whose answer does not
    follow it is asked once more.
    """
    question = _Question(prompt, system, model, max_tokens, temperature, stop, schema, context)
    while True:
        reply = _ask(*question.request())
        if question.takes(reply):
            return reply


async def ask_llm_async(prompt, *, system=None, model=None, max_tokens=None, temperature=None, stop=None, schema=None, context=None):
    """As `ask_llm`; calls that are gathered run at the same time."""
    question = _Question(prompt, system, model, max_tokens, temperature, stop, schema, context)
    while True:
        try:
            reply = _reply(await _calls.start(_ASK, *question.request()))
        except _calls.Failure as error:
            failure = error.value
        else:
            if question.takes(reply):
                return reply
            continue
        raise _failed(failure)


def ask_llm_batch(prompts, *, system=None, model=None, max_tokens=None, temperature=None, stop=None, schema=None, context=None):
    """Ask a model many things at the same time; gives the replies in the order of the prompts.

    A prompt that failed has its exception in the list, in place of a reply.
    """
    questions = []
    results = []
    for prompt in prompts:
        # What is the matter with one prompt is not with the others.
        try:
            question = _Question(prompt, system, model, max_tokens, temperature, stop, schema, context)
            results.append(None)
            questions.append((len(results) - 1, question, *question.request()))
        except (TypeError, ValueError) as error:
            results.append(error)
    while questions:
        again = []
        for some in _batches(questions):
            for (place, question, _, _), answer in zip(some, _ask_all(some)):
                try:
                    reply = _told(answer)
                    if question.takes(reply):
                        results[place] = reply
                    else:
                        again.append((place, question, *question.request()))
                except (LLMError, TypeError, ValueError) as error:
                    results[place] = error
        questions = again
    return results


# What one call to the host carries at the most.
_BATCH_BYTES = 64 << 20
_BATCH_ITEMS = 10_000


def _batches(questions):
    some, size = [], 0
    for question in questions:
        length = question[1].size
        if some and (size + length > _BATCH_BYTES or len(some) == _BATCH_ITEMS):
            yield some
            some, size = [], 0
        some.append(question)
        size += length
    if some:
        yield some


def _ask_all(questions):
    head = b"[" + b",".join(question[2] for question in questions) + b"]"
    tail = b"".join(question[3] for question in questions)
    try:
        return _json.loads(_calls.call(_BATCH, head, tail))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


def _told(answer):
    error = answer.get("error")
    if error is not None:
        raise _error(error)
    return _made(answer["text"], answer["about"])


def _ask(head, tail):
    try:
        return _reply(_calls.call(_ASK, head, tail))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


def _reply(answer):
    start = 4 + int.from_bytes(answer[:4], "little")
    return _made(answer[start:].decode(), _json.loads(answer[4:start]))


def _made(text, about):
    reply = Reply(text)
    reply.usage = Usage(about)
    reply.model = about["model"]
    reply.cached = about["cached"]
    reply.stop = about["stop"]
    return reply


def _failed(failure):
    if failure.kind == "llm":
        return _error(_json.loads(failure.message))
    if failure.kind == "denied":
        return PermissionError(failure.message)
    return {"arguments": TypeError, "value": ValueError}.get(failure.kind, RuntimeError)(failure.message)


def _error(told):
    kind, message = told["kind"], told["message"]
    if kind == "budget":
        return BudgetExceeded(message, told["what"])
    if kind == "provider":
        return ProviderError(message, told.get("status"), told["attempts"])
    if kind == "refused":
        return Refused(message)
    return ValueError(message)


class _Question:
    """What is asked, until there is an answer that serves."""

    def __init__(self, prompt, system, model, max_tokens, temperature, stop, schema, context):
        if not isinstance(prompt, str):
            raise TypeError(f"`prompt` must be a str, not {type(prompt).__name__}")
        if isinstance(stop, str):
            stop = [stop]
        if max_tokens is not None and max_tokens < 1:
            raise ValueError("`max_tokens` must be at least 1")
        texts = [prompt]
        if context is not None:
            texts += context if _is_many(context) else [context]
        self.check = None
        if schema is not None:
            from agentkernel import _schema

            schema, self.check = _schema.read(schema)
            texts[0] += "\n\nAnswer with JSON alone, following this JSON schema:\n" + _json.dumps(schema)
        # The host reads parts of a context itself.
        wires = [getattr(text, "_wire", None) for text in texts]
        self.parts = [b"" if wire else str(text).encode("utf-8", "replace") for text, wire in zip(texts, wires)]
        options = {
            "system": system, "model": model, "max_tokens": max_tokens, "temperature": temperature,
            "stop": stop, "schema": schema,
        }
        self.options = {name: value for name, value in options.items() if value is not None}
        self.size = sum(len(part) for part in self.parts)
        self.size += sum(text.size for text, wire in zip(texts, wires) if wire)
        self.options["parts"] = [wire().hex() if wire else len(part) for part, wire in zip(self.parts, wires)]

    def request(self):
        return _json.dumps(self.options).encode(), b"".join(self.parts)

    def takes(self, reply):
        """Whether the reply serves; if not, the next request says why not."""
        if self.check is None:
            return True
        try:
            reply.parsed = self.check(reply)
            return True
        except ValueError as error:
            if "said" in self.options:
                raise SchemaError(f"the answer does not follow the schema: {error}", reply) from None
            self.options["said"] = [[str(reply), f"That does not follow the schema: {error}. Answer with the JSON alone."]]
            return False


def _is_many(context):
    return isinstance(context, (list, tuple)) or hasattr(type(context), "__next__")
