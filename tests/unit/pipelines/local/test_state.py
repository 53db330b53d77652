"""The state folder of this machine: one that cannot be used is named, with its owner and the setting that moves it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.state import in_words_of
from workers.host.private import file_trouble

NOBODY = 65534
#: Root without the right to pass over the rights of files: as any account to those of another one.
AS_ANY_ACCOUNT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--"]
ESYNC = [sys.executable, "-c", "from pipelines.cli.entry import main; main()"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize("command", ["runs", "serve"])
def test_the_state_folder_of_another_account_is_said_to_be_that(command: str, tmp_path: Path) -> None:
    """Not that nothing runs there, and not one of its files without the setting that names the folder."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, NOBODY, NOBODY)
    environment = {name: value for name, value in os.environ.items() if name != "ESYNC_BROKER_URL"}
    ended = subprocess.run(
        [*AS_ANY_ACCOUNT, *ESYNC, command],
        env={**environment, "ESYNC_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == ended.returncode
    assert f"the state folder {state} cannot be used: it belongs to the account " in ended.stderr
    assert "Fix: run esync as that account, or set ESYNC_STATE to a folder of yours" in ended.stderr


def test_a_file_of_the_state_folder_is_moved_by_its_setting(tmp_path: Path) -> None:
    """No command names it, so `name another place` would not help; of other files it is the right advice."""
    full = OSError(28, "No space left on device")
    inside = in_words_of(tmp_path, file_trouble(full, tmp_path / "broker" / "broker.conf", "written"))
    assert inside.remedy == "free space there, or set ESYNC_STATE to another folder"
    elsewhere = in_words_of(tmp_path / "state", file_trouble(full, tmp_path / "report.html", "written"))
    assert elsewhere.remedy == "free space there, or name another place"
    denied = in_words_of(
        tmp_path, file_trouble(PermissionError(13, "Permission denied"), tmp_path / "seal.key", "read")
    )
    assert denied.remedy.startswith("set ESYNC_STATE to a folder that this account may use")
