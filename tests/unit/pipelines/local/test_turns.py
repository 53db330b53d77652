"""Commands that run their own services on one machine take turns."""

import threading
import time
from pathlib import Path

import pytest

from pipelines.local import turns
from pipelines.local.services import remarks_here
from pipelines.local.state import record_services
from pipelines.local.turns import exclusive
from workers.errors import InputRefused
from workers.settings import Secret, Settings


def test_six_commands_that_only_look_all_get_their_turn(tmp_path: Path) -> None:
    """Started at once, each runs alone, and none is refused."""
    inside, most, done = [0], [0], []
    together = threading.Barrier(6)

    def command(number: int) -> None:
        together.wait()
        with exclusive(tmp_path, "verify", patience=lambda _: 60.0):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            record_services(tmp_path, "verify", [])
            time.sleep(0.01)
            inside[0] -= 1
            done.append(number)

    threads = [threading.Thread(target=command, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(range(6)) == sorted(done)
    assert most == [1]


def test_a_command_that_waits_says_for_which_one_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, and gives up when its patience with that command ends."""
    monkeypatch.setattr(turns, "_TOLD_AFTER", 0.0)
    said: list[str] = []
    asked: list[str] = []

    def patience(command: str) -> float:
        asked.append(command)
        return 60.0 if len(asked) < 3 else 0.0

    with exclusive(tmp_path, "verify"):
        record_services(tmp_path, "verify", [])
        with (
            pytest.raises(InputRefused, match=r"another esync command \(verify\)"),
            exclusive(tmp_path, "plan", said.append, patience),
        ):
            pass
    assert ["verify"] * 3 == asked
    assert ["waiting for another esync command (verify) to end; `esync up` would serve both at once"] == said


def test_a_low_limit_of_open_files_is_a_remark_about_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`esync up` and `esync doctor` say it, unless the workers run elsewhere."""
    monkeypatch.setattr("pipelines.local.services.possible_limit", lambda: 90)
    (remark,) = remarks_here(Settings(concurrency=32))
    assert str(remark) == (
        "the limit of 90 open files lets a worker work on 8 nodes in parallel, not on 32; "
        "raise the limit to 160 (ulimit -n, LimitNOFILE)"
    )
    assert () == remarks_here(Settings(concurrency=8))
    assert () == remarks_here(Settings(concurrency=32, broker_url=Secret("redis://:x@127.0.0.1:1/0")))
