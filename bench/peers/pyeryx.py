"""Measures eryx (`pyeryx`), CPython as a WebAssembly component in this process."""

from contextlib import contextmanager
from importlib.metadata import version

import eryx

import rounds


class Peer:
    version = version("pyeryx")
    refusals = eryx.EryxError

    def start(self):
        return eryx.Session()

    def ready(self):
        """Runs find an instance made in the background, where sessions make their own."""
        sandbox = eryx.Sandbox()
        return lambda: sandbox

    def kept_turns(self):
        raise rounds.Missing("only a journalled call that halts is taken back, and of the state what can be pickled")

    @contextmanager
    def room(self, sessions, ready):
        if ready:
            raise rounds.Missing("sessions make their own instance; only single runs find one that waits")
        yield self.start

    @contextmanager
    def elsewhere(self):
        yield self.start

    def run(self, session, code):
        session.execute(code)

    def value(self, session, expression):
        return session.execute(f"result = {expression}").result

    def close(self, session):
        """It ends with its last reference."""

    def save(self, session):
        return session.snapshot_state()

    def restore(self, session, content):
        session.restore_state(content)

    def private_bytes(self, sessions):
        return rounds.private_bytes("self")


rounds.main(Peer())
