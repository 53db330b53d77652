"""The limit of the arenas of malloc, and what the garbage collector looks at."""

import gc
import platform
import subprocess
import sys

import pytest

from tests.places import ROOT
from workers.host.memory import spare_loaded

SCRIPT = """
import ctypes, re, sys, threading
from workers.host.memory import ARENAS, few_arenas
assert few_arenas()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
started = threading.Barrier(8)
def take():
    started.wait()
    malloc(1000)
threads = [threading.Thread(target=take) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fclose(ctypes.c_void_p(stream))
print(len(re.findall("<heap nr=", open(sys.argv[1]).read())) <= ARENAS)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no arenas")
def test_threads_share_a_few_arenas(tmp_path: object) -> None:
    """Of the arenas that eight threads would have, one is made."""
    command = [sys.executable, "-c", SCRIPT, f"{tmp_path}/info"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "True" == done.stdout.strip()


def test_what_is_loaded_is_not_looked_at_again() -> None:
    """Thousands of new objects start no search; garbage is found, also where nothing was searched at the start."""
    kept: list[object] = [[]]
    gc.disable()
    before = gc.get_threshold()
    spare_loaded()
    try:
        assert gc.isenabled()
        assert not any(one is kept for one in gc.get_objects())
        searches = gc.get_stats()[0]["collections"]
        new: list[object] = [[] for _ in range(4000)]
        assert gc.get_stats()[0]["collections"] == searches
        del new
        kept = []
        kept.append(kept)
        del kept
        assert gc.collect() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
