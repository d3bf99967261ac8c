"""Measures Monty (`pydantic-monty`), whose sessions run in processes of a pool."""

from contextlib import contextmanager
from importlib.metadata import version

from pydantic_monty import Monty, MontyError

import rounds


class Peer:
    version = version("pydantic-monty")
    refusals = MontyError

    def __init__(self, pool):
        self.pool = pool

    def start(self):
        return self.pool.checkout().__enter__()

    def ready(self):
        raise rounds.Missing("a start always takes a process that waits, and makes one where there is none")

    def kept_turns(self):
        raise rounds.Missing("a turn cannot be taken back, but by what was saved before it")

    @contextmanager
    def room(self, sessions, ready):
        """A pool for so many sessions at once."""
        with Monty(min_processes=sessions if ready else 1, max_processes=sessions) as pool:
            rounds.settle(0.1)
            yield Peer(pool).start

    @contextmanager
    def elsewhere(self):
        """A pool of its own, so another process."""
        with Monty() as pool:
            other = Peer(pool)
            # Its first session is not what is measured.
            first = other.start()
            assert other.value(first, rounds.TURN) == 2
            other.close(first)
            yield other.start

    def run(self, session, code):
        session.feed_run(code)

    def value(self, session, expression):
        return session.feed_run(expression)

    def close(self, session):
        session.__exit__(None, None, None)

    def save(self, session):
        return session.dump()

    def restore(self, session, content):
        session.load_session(content)

    def private_bytes(self, sessions):
        """Each session has a process, whose memory is all its own."""
        return sum(rounds.private_bytes(session.worker_pid) for session in sessions)


with Monty(max_processes=2) as pool:
    rounds.main(Peer(pool))
