"""The rounds that every peer goes through, as AgentKernel does in `bench/src/peers/own.rs`."""

import gc
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from time import perf_counter

TURN = "1+1"
WARM_UP = 10

# Sessions that are there before memory is counted, so that what all of them share is not.
BEFORE = 10


class Missing(Exception):
    """The peer has nothing of the kind; says what there is instead."""


def settle(seconds):
    """Leaves a peer the time to make ready what it makes in the background."""
    if seconds:
        time.sleep(seconds)


def starts(peer, rounds, start, pause=0):
    times = []
    for number in range(-WARM_UP, rounds):
        settle(pause)
        begin = perf_counter()
        session = start()
        value = peer.value(session, TURN)
        end = perf_counter()
        assert value == 2, value
        if number >= 0:
            times.append(end - begin)
        peer.close(session)
        # Not in the next round's time.
        del session
    return times


def turns(peer, rounds):
    session = peer.start()
    times = []
    for number in range(-WARM_UP, rounds):
        begin = perf_counter()
        value = peer.value(session, TURN)
        end = perf_counter()
        assert value == 2, value
        if number >= 0:
            times.append(end - begin)
    peer.close(session)
    return times


def bursts(peer, rounds, sessions, ready):
    times = []
    for _ in range(rounds):
        with peer.room(sessions, ready) as start:
            kept = []
            begin = perf_counter()
            for _ in range(sessions):
                session = start()
                assert peer.value(session, TURN) == 2
                kept.append(session)
            times.append(perf_counter() - begin)
            for session in kept:
                peer.close(session)
            del kept, session
            gc.collect()
    return times


def idle(peer, sessions):
    with peer.room(BEFORE + sessions, False) as start:
        kept = []
        for number in range(BEFORE + sessions):
            if number == BEFORE:
                before = peer.private_bytes(kept)
            session = start()
            assert peer.value(session, TURN) == 2
            kept.append(session)
        grown = peer.private_bytes(kept) - before
        for session in kept:
            peer.close(session)
    return grown / sessions


def private_bytes(process):
    """Memory of a process that no other shares."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
    except FileNotFoundError:
        raise Missing("this system does not tell what memory is private") from None


def write(path, content):
    """Writes a file and waits for the disk, as AgentKernel does."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read(path):
    with open(path, "rb") as file:
        return file.read()


def state(peer, rounds, code, expression, expected):
    """From a live session to a file, and from the file to a result in another one."""
    session = peer.start()
    with refusing(peer, "making it"):
        peer.run(session, code)
    saves, restores = [], []
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "state")
        for _ in range(rounds):
            assert peer.value(session, TURN) == 2
            with refusing(peer, "saving it"):
                begin = perf_counter()
                write(path, peer.save(session))
                saves.append(perf_counter() - begin)
            with peer.elsewhere() as start, refusing(peer, "using it once restored"):
                begin = perf_counter()
                other = start()
                peer.restore(other, read(path))
                value = peer.value(other, expression)
                restores.append(perf_counter() - begin)
                assert repr(value) == expected, value
                peer.close(other)
                del other
        size = os.path.getsize(path)
    peer.close(session)
    return saves, size, restores


@contextmanager
def refusing(peer, step):
    """What a peer does not do with a state is told, and not taken for a failure of the benchmark."""
    try:
        yield
    except peer.refusals as refusal:
        lines = str(refusal).strip().splitlines() or [type(refusal).__name__]
        raise Missing(f"{step}: {lines[-1]}") from refusal


def main(peer):
    plan = json.loads(sys.argv[1])
    found = {}

    def row(name, kind, measure):
        try:
            found[name] = {kind: measure()}
        except Missing as missing:
            found[name] = {"missing": str(missing)}

    row("start", "seconds", lambda: starts(peer, plan["starts"], peer.start))
    row("ready", "seconds", lambda: starts(peer, plan["starts"], peer.ready(), pause=0.01))
    row("turn", "seconds", lambda: turns(peer, plan["turns"]))
    row("kept_turn", "seconds", peer.kept_turns)
    row("burst", "seconds", lambda: bursts(peer, plan["bursts"], plan["burst"], False))
    row("burst_ready", "seconds", lambda: bursts(peer, plan["bursts"], plan["burst"], True))
    row("idle", "bytes", lambda: idle(peer, plan["burst"]))
    for number, (code, expression, expected) in enumerate(plan["states"]):
        names = [f"{name}_{number}" for name in ("save", "file", "restore")]
        try:
            saves, size, restores = state(peer, plan["saves"], code, expression, expected)
        except Missing as missing:
            found.update((name, {"missing": str(missing)}) for name in names)
        else:
            found.update(zip(names, ({"seconds": saves}, {"bytes": size}, {"seconds": restores})))
    print(json.dumps({"version": peer.version, "found": found}))
