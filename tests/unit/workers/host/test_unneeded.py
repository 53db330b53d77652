"""What a worker does without: libraries of libraries, until one of them is used."""

import json
import subprocess
import sys

_WORKER = """
import json, sys
import pipelines.local.celery_worker
from workers.host.unneeded import leave_out
leave_out()
import pipelines.worker
loaded = sorted({name.partition(".")[0] for name, module in sys.modules.items() if module})
"""


def _said(program: str) -> object:
    """What a new process prints as JSON."""
    environment = {"ESYNC_BROKER_URL": "redis://127.0.0.1:1/0", "PATH": ""}
    command = [sys.executable, "-c", program]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def test_a_worker_loads_what_it_uses() -> None:
    """A worker works without libraries that other libraries would load for nothing, installed or not."""
    loaded = _said(f"{_WORKER}\nprint(json.dumps(loaded))")
    assert isinstance(loaded, list)
    assert {"celery", "lxml", "spnego", "winrm"} <= set(loaded)
    unneeded = {"greenlet", "gssapi", "krb5", "opentelemetry", "requests", "rich", "ruamel", "tornado", "yaml"}
    assert not unneeded & set(loaded)


def test_nothing_that_a_worker_may_load_later_needs_them() -> None:
    """Every module of ours below the ways in can be loaded without them, a cluster file's reader too."""
    program = f"""{_WORKER}
import importlib, pkgutil
for root in ("workers", "tasks", "pipelines.run", "pipelines.usecases", "pipelines.cluster_file", "pipelines.report"):
    for module in pkgutil.walk_packages(importlib.import_module(root).__path__, root + "."):
        importlib.import_module(module.name)
print(json.dumps("ruamel.yaml" in sys.modules))
"""
    assert _said(program) is True
