"""What a command loads: the time until it starts is the time of its imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

from workers.redis.embedded import EmbeddedBroker

#: Runs a command, then prints the modules in memory.
_SCRIPT = """
import json, sys
from pipelines.cli.entry import main
try:
    main()
finally:
    print("\\n" + json.dumps(sorted(name for name, module in sys.modules.items() if module)))
"""
_NEVER_FOR_HELP = {
    "celery",
    "cryptography",
    "jinja2",
    "kombu",
    "lxml",
    "pydantic",
    "redis",
    "ruamel",
    "structlog",
    "winrm",
}

_NEVER_FOR_CHECK = {
    "asyncio",
    "celery",
    "cryptography",
    "jinja2",
    "kombu",
    "lxml",
    "psutil",
    "redis",
    "rich",
    "structlog",
    "winrm",
}
_START = ("", ".command", ".entry", ".exits", ".streams", ".verbs")


def _loaded(*arguments: str, **variables: str) -> set[str]:
    """The modules in memory after a command that succeeded."""
    command = [sys.executable, "-c", _SCRIPT, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **variables})
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_loads_the_library_of_the_command_line_and_nothing_of_a_verb() -> None:
    """It needs neither models nor a broker nor the module of any verb."""
    loaded = _loaded("--help")
    assert set() == loaded & _NEVER_FOR_HELP
    ours = {name for name in loaded if name.startswith(("pipelines", "tasks", "workers"))}
    unneeded = {"workers", "workers.host", "workers.host.unneeded"}  # says what is left out
    assert ours <= {"pipelines", *(f"pipelines.cli{part}" for part in _START)} | unneeded


def test_check_loads_models_and_the_parser_and_nothing_of_a_broker(tmp_path: Path) -> None:
    """What a correct cluster file does not need takes longer to load than to check a hundred nodes."""
    (tmp_path / "cluster.yaml").write_text(
        "name: shop\nedition: '9.1'\norigin: S1\nsite: {path: 'C:\\site'}\n"
        "connection: {user: svc, secret: env:SHOP}\n"
        "nodes: [{name: S1, host: 127.0.0.9, role: staging, pool: staging}]\n"
    )
    loaded = _loaded("check", str(tmp_path / "cluster.yaml"), SHOP="x", ESYNC_STATE=str(tmp_path / "state"))
    assert set() == loaded & _NEVER_FOR_CHECK
    assert {"pydantic", "ruamel.yaml"} <= loaded


def test_a_list_of_runs_loads_no_step_and_no_celery(tmp_path: Path) -> None:
    """It reads records, and needs neither the product's knowledge nor a worker; without any record, no table."""
    with EmbeddedBroker(tmp_path / "broker") as broker:
        loaded = _loaded("runs", ESYNC_BROKER_URL=broker.url.reveal())
    assert set() == loaded & {
        "structlog",
        "celery",
        "kombu",
        "jinja2",
        "lxml",
        "cryptography.x509",
        "winrm.protocol",  # `winrm.transport` stands for what is left out
        "opentelemetry",
        "rich",
        "ruamel",
        "tenacity",
    }
    assert not [
        name for name in loaded if name.startswith(("tasks.steps", "pipelines.rollout", "pipelines.coordinator"))
    ]
