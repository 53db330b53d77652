"""What a command loads: the time until it starts is the time of its imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from pipelines.engine import connect_engine
from tests.unit.pipelines.report.sample_run import keep, sample
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings

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


def _cluster_file(folder: Path) -> Path:
    file = folder / "cluster.yaml"
    file.write_text(
        "name: shop\nedition: '9.1'\norigin: S1\nsite: {path: 'C:\\site'}\n"
        "connection: {user: svc, secret: env:SHOP}\n"
        "nodes: [{name: S1, host: 127.0.0.9, role: staging, pool: staging}]\n"
    )
    return file


def test_help_loads_the_library_of_the_command_line_and_nothing_of_a_verb() -> None:
    """It needs neither models nor a broker nor the module of any verb."""
    loaded = _loaded("--help")
    assert set() == loaded & _NEVER_FOR_HELP
    ours = {name for name in loaded if name.startswith(("pipelines", "tasks", "workers"))}
    # What asks a command to end, and what is left out.
    host = {"workers", "workers.host", "workers.host.signals", "workers.host.unneeded"}
    assert ours <= {"pipelines", *(f"pipelines.cli{part}" for part in _START)} | host


def test_check_loads_models_and_the_parser_and_nothing_of_a_broker(tmp_path: Path) -> None:
    """What a correct cluster file does not need takes longer to load than to check a hundred nodes."""
    loaded = _loaded("check", str(_cluster_file(tmp_path)), SHOP="x", ESYNC_STATE=str(tmp_path / "state"))
    assert set() == loaded & _NEVER_FOR_CHECK
    assert {"pydantic", "ruamel.yaml"} <= loaded


#: What starts, moves and follows runs, works on nodes, judges them, opens certificate, configuration and cluster files,
#: and what writes logs.
_NEVER_TO_LOOK_AT_A_RUN = {
    "celery",
    "cryptography.x509",
    "filelock",
    "jinja2",
    "kombu",
    "lxml",
    "opentelemetry",
    "pipelines.audit.check",
    "pipelines.cli.follow",
    "pipelines.coordinator",
    "pipelines.local.services",
    "pipelines.run.planning",
    "psutil",
    "ruamel",
    "structlog",
    "tasks.ektron.facts.node",
    "tasks.ektron.rules.invariants",
    "tasks.ektron.sync.seen",
    "tasks.step",
    "tasks.steps.install_check",
    "tenacity",
    "winrm.protocol",  # `winrm.transport` stands for what is left out
    "workers.redis.embedded",
    "workers.winrm.operations",
}
#: And nothing of the run store.
_NEVER_WITHOUT_A_RUN = {*_NEVER_TO_LOOK_AT_A_RUN - {"cryptography.x509", "ruamel"}, "pipelines.engine", "redis", "rich"}


@pytest.fixture
def recorded(valkey: Redis, valkey_url: Secret) -> dict[str, str]:
    """Variables for a command that finds a run in the store."""
    del valkey  # emptied
    key = new_seal_key()
    keep(connect_engine(Settings(broker_url=valkey_url, seal_key=key)), sample())
    return {"ESYNC_BROKER_URL": valkey_url.reveal(), "ESYNC_SEAL_KEY": key.reveal()}


def test_a_list_of_runs_loads_no_step(recorded: dict[str, str]) -> None:
    """It reads records, and needs neither the product's knowledge nor a table."""
    loaded = _loaded("runs", **recorded)
    assert set() == loaded & {*_NEVER_TO_LOOK_AT_A_RUN, "rich", "tasks.cluster"}
    assert not [
        name for name in loaded if name.startswith(("tasks.steps", "pipelines.rollout", "pipelines.coordinator"))
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "--json"),
        ("status",),
        ("status", "--json"),
        ("report",),
        ("report", "--format", "json"),
        ("explain", "S1"),
        ("token", "list"),
    ],
    ids=" ".join,
)
def test_what_looks_at_runs_loads_nothing_that_makes_them(arguments: tuple[str, ...], recorded: dict[str, str]) -> None:
    """Nothing of messages, services, certificate files, cluster files and logs."""
    assert set() == _loaded(*arguments, **recorded) & _NEVER_TO_LOOK_AT_A_RUN


def test_several_runs_are_shown_as_what_may_have_a_saved_plan(recorded: dict[str, str]) -> None:
    """A plan has the facts that it was made from; everything else is as for one run."""
    assert {"tasks.ektron.facts.node"} >= _loaded("status", "last", "last", **recorded) & _NEVER_TO_LOOK_AT_A_RUN


def test_a_run_that_has_ended_is_watched_without_what_might_start_a_worker_for_it(recorded: dict[str, str]) -> None:
    """What follows a run is loaded, and what starts services or sends messages is not."""
    assert set() == _loaded("watch", **recorded) & (_NEVER_TO_LOOK_AT_A_RUN - {"pipelines.cli.follow"})


def test_a_page_needs_its_template_language_besides(recorded: dict[str, str]) -> None:
    """Everything else is as for a report in text."""
    assert {"jinja2"} == _loaded("report", "--format", "html", **recorded) & _NEVER_TO_LOOK_AT_A_RUN


@pytest.mark.parametrize("arguments", [("propagate", "--changed", "S1"), ("export", "--ansible")], ids=" ".join)
def test_what_needs_a_cluster_file_alone_loads_nothing_of_runs(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Neither the run store nor what shows runs."""
    file = _cluster_file(tmp_path)
    assert set() == _loaded(*arguments, str(file), ESYNC_STATE=str(tmp_path / "state")) & _NEVER_WITHOUT_A_RUN


def test_the_end_of_a_command_is_not_a_search_for_garbage() -> None:
    """Everything that is left is spared: to look at all of it takes a sixth of a command."""
    script = "import atexit, gc; atexit.register(lambda: print(len(gc.get_objects())))\n"
    script += "from pipelines.cli.entry import main; main()"
    command = [sys.executable, "-c", script, "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout.splitlines()[-1]) < 1000
