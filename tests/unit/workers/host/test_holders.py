"""Names of holders: which of them are known to have ended."""

import os
import subprocess
import sys

import pytest

from workers.host import holders
from workers.host.holders import has_ended, new_holder


def named(pid: int, holder: str) -> str:
    """The same name with another process id."""
    return holder.replace(f":{os.getpid()}:", f":{pid}:")


def test_a_process_of_this_machine_has_ended_when_it_has() -> None:
    """And not before; no two names are the same."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = named(child.pid, new_holder())
    assert not has_ended(holder)
    child.communicate()
    assert has_ended(holder)
    assert has_ended(f"{holder}/P1")
    assert not has_ended(new_holder())
    assert new_holder() != new_holder()


@pytest.mark.parametrize(
    "holder",
    ["", "w1", "host:1:abcdef", "20261126-run", "a:0:000000000000", "a:-1:000000000000", f"a:{10**10}:0", "::"],
)
def test_any_other_name_may_be_alive(holder: str) -> None:
    """A run, another program, or a process id that cannot be one."""
    assert not has_ended(holder)


def test_processes_of_another_machine_may_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a container of this host, and where the system does not name its set of processes."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = named(child.pid, new_holder())
    with monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", lambda: "another")
        assert not has_ended(dead)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(holders, "_NAMESPACE", holders._NAMESPACE.parent / "net")
            holders._processes_here.cache_clear()
            assert not has_ended(dead)
            patched.setattr(holders, "_BOOT", holders._BOOT / "nothing")
            holders._processes_here.cache_clear()
            assert not has_ended(dead)
    finally:
        holders._processes_here.cache_clear()
    assert has_ended(dead)
