"""The component's exports."""

from wit_world import exports
from wit_world.exports import guest
from wit_world.imports import console, modules, operations

from _agentkernel import (
    absent, failures, files, held, interactive, library, provided, signals, streams, supplied, turn, waiting,
    warm,
)


class Guest(exports.Guest):
    """`agentkernel:kernel/guest`."""

    def run(self, turn_: guest.Turn) -> guest.Outcome:
        return turn.run(turn_)

    def incomplete(self, code: str) -> bool:
        return interactive.incomplete(code)

    def complete(self, text: str) -> list[str]:
        return interactive.complete(text)

    def held(self) -> list[str]:
        return held.held()

    def rest(self) -> None:
        # The build puts a function of libc in this one's place (xtask/src/fuse/gates.rs).
        raise NotImplementedError


def _prepare() -> None:
    """Bring the interpreter to where `cargo xtask guest` rehearses it and takes its memory."""
    warm.preload()
    library.collect()
    streams.install(False)
    streams.keep_order()
    waiting.install()
    signals.install(turn.guarded)
    library.install()
    provided.install()
    absent.install()
    supplied.install()
    files.install()
    failures.install()
    warm.forget_the_build()


_prepare()
