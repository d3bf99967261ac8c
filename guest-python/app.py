"""The component's exports."""

from wit_world import exports
from wit_world.exports import guest
from wit_world.imports import console, operations

from _agentkernel import absent, interactive, library, signals, streams, turn, waiting, warm


class Guest(exports.Guest):
    """`agentkernel:kernel/guest`."""

    def run(self, turn_: guest.Turn) -> guest.Outcome:
        return turn.run(turn_)

    def incomplete(self, code: str) -> bool:
        return interactive.incomplete(code)

    def complete(self, text: str) -> list[str]:
        return interactive.complete(text)


def _prepare() -> None:
    """Bring the interpreter to where `cargo xtask guest` rehearses it and takes its memory."""
    warm.preload()
    library.collect()
    streams.install(False)
    waiting.install()
    signals.install()
    library.install()
    absent.install()
    warm.forget_the_build()


_prepare()
