"""The names under which the processes of a worker hold nodes."""

import os
import subprocess
import sys
from pathlib import Path

_NAMES = """
import os, sys
from pipelines.worker import HOLDER, process
print(process().leases.holder == HOLDER, flush=True)
process.cache_clear()
if os.fork() == 0:
    print(process().leases.holder == HOLDER, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_child_of_a_pool_of_processes_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two with one name could hold a node at the same time: the run store takes them for one."""
    own = {"ESYNC_BROKER_URL": "redis://127.0.0.1:1/0", "ESYNC_STATE": str(tmp_path)}
    command = [sys.executable, "-c", _NAMES]
    said = subprocess.run(command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert ["True", "False"] == said.split()
