"""Brings the interpreter into the state that every session starts from."""

import gc
import importlib
import linecache
import os
import sys
import types
from array import array

_PRELOADED = """
abc argparse array ast base64 binascii bisect calendar cmath codecs collections collections.abc concurrent.futures
configparser contextlib contextvars copy csv dataclasses datetime decimal difflib email.utils enum errno fnmatch
fractions functools getpass glob graphlib gzip hashlib heapq hmac html html.parser inspect io ipaddress itertools json
keyword locale logging marshal math numbers operator os os.path pathlib pickle platform pprint queue random re reprlib
secrets select shlex shutil signal stat statistics string struct tempfile textwrap threading time timeit tokenize
tomllib traceback types typing unicodedata urllib.parse uuid warnings weakref xml.etree.ElementTree zipfile zlib
zoneinfo asyncio subprocess
""".split()

def preload() -> None:
    """Import what programs use most."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            pass


def forget_the_build() -> None:
    """Leave nothing of the machine that this is built on behind."""
    sys.path[:] = [""]
    sys.path_importer_cache.clear()
    sys.argv = [""]
    sys.executable = sys.prefix = sys.exec_prefix = sys.base_prefix = sys.base_exec_prefix = ""
    os.environ.clear()


# Addresses of the objects of the base image, for the build to make immortal.
_objects = array("I")


def objects() -> tuple[int, int]:
    """Address and count of the addresses of all objects that outlive every turn.

    Once they are immortal no turn writes to their reference counts, so their pages stay shared.
    """
    from . import turn

    turn._turns = 0
    linecache.clearcache()
    found = {}
    # Only what a module holds is sure to be there when this turn has ended.
    work = [module for module in sys.modules.values() if module is not turn.main]
    while work:
        thing = work.pop()
        if id(thing) in found or thing is found or isinstance(thing, _FLEETING):
            continue
        found[id(thing)] = None
        if type(thing) is types.CodeType:
            work += thing.co_consts
        else:
            work += gc.get_referents(thing)
    _objects[:] = array("I", found)
    return _objects.buffer_info()


_FLEETING = (BaseException, types.FrameType, types.GeneratorType, types.CoroutineType, types.TracebackType)


def settle() -> None:
    """Forget what was rehearsed, and leave a heap that the collector need never look at again."""
    from . import turn

    for name in [name for name in turn.main.__dict__ if name not in ("__name__", "__builtins__")]:
        del turn.main.__dict__[name]
    linecache.clearcache()
    if turn._loop is not None:
        turn._loop.close()
        turn._loop = None
    gc.collect()
    gc.freeze()
