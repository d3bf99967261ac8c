"""What the host offers this program beside its tools."""

# Names, and the modules that have them: each is loaded when it is first used.
_PLACES = {
    name: module
    for module, names in {
        "_llm": (
            "ask_llm", "ask_llm_async", "ask_llm_batch", "budget",
            "Reply", "Budget", "LLMError", "BudgetExceeded", "ProviderError", "Refused", "SchemaError",
        ),
        "_context": ("context", "Context", "Match"),
        "_rlm": (
            "rlm", "rlm_async", "rlm_batch",
            "llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched",
            "answer", "FINAL", "FINAL_VAR", "SHOW_VARS",
        ),
        "_skills": ("skills", "Skill", "SkillError"),
        "_state": ("state", "StateError", "StateConflict"),
    }.items()
    for name in names
}

__all__ = ["ask_llm", "ask_llm_async", "ask_llm_batch", "budget"]


def __dir__():
    return sorted(_PLACES)


def __getattr__(name):
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'agentkernel' has no attribute {name!r}", name=name)
    import importlib

    value = getattr(importlib.import_module(f"agentkernel.{place}"), name)
    globals()[name] = value
    return value
