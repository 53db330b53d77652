"""`esync check`: cluster files and what they need on this machine. Contacts no server."""

from pathlib import Path
from typing import Any

from pipelines.cli.console import (
    AsJson,
    CommandExit,
    describe,
    notify,
    print_json,
    print_lines,
)
from pipelines.cli.files import ClusterFiles, are_many, for_each
from pipelines.cluster_file.here import found_here
from pipelines.cluster_file.loader import ClusterRefused, load_with_document
from pipelines.cluster_file.mistakes import Mistake, mistake_at
from pipelines.cluster_file.pools import without_effect
from pipelines.cluster_file.positions import Document
from tasks.cluster import Cluster
from workers.errors import InputRefused
from workers.settings import Settings, load_settings

__all__ = ["check"]


def check(files: ClusterFiles, *, as_json: AsJson = False) -> None:
    """Read cluster files and list every mistake in them. Contacts no server."""
    if not as_json:
        for_each(files, _checked)
        return
    found = for_each(files, _as_data)
    print_json(list(found) if are_many(files) else found[0])
    if not all(one["ok"] for one in found):
        raise CommandExit(InputRefused.exit_code)


def _as_data(file: Path) -> dict[str, Any]:
    """The result for one file, also where it has mistakes."""
    try:
        cluster, warnings = _read(file)
    except InputRefused as refused:
        if not refused.file:  # about a setting of this machine
            raise
        mistakes = [mistake.model_dump() for mistake in _mistakes(refused, file)]
        return {"file": str(file), "ok": False, "cluster": None, "nodes": 0, "problems": mistakes, "warnings": []}
    listed = [mistake.model_dump() for mistake in warnings]
    nodes = len(cluster.nodes)
    return {"file": str(file), "ok": True, "cluster": cluster.name, "nodes": nodes, "problems": [], "warnings": listed}


def _mistakes(refused: InputRefused, file: Path) -> tuple[Mistake, ...]:
    """The mistakes of a file; a single one where it cannot be read at all: a dead link in a folder, for example."""
    if isinstance(refused, ClusterRefused):
        return refused.mistakes
    return (Mistake(file=str(file), line=1, message=f"{refused.message}; {refused.remedy}"),)


def _checked(file: Path) -> None:
    cluster, _ = _read(file)
    print_lines([f"{file}: cluster {describe(cluster)}: no mistakes"])


def _read(file: Path) -> tuple[Cluster, tuple[Mistake, ...]]:
    """The cluster of a file, and the warnings, which are also printed."""
    cluster, document = load_with_document(file)
    return cluster, (*_without_effect(file, cluster, document), *_check_here(file, cluster, document))


def _without_effect(file: Path, cluster: Cluster, document: Document) -> tuple[Mistake, ...]:
    """The warnings about a policy, which are also printed."""
    found = [
        mistake_at(str(file), document.find(one.path)[0], one.path, one.message, allowed=one.allowed)
        for one in without_effect(cluster)
    ]
    found.sort(key=lambda one: one.line)
    for mistake in found:
        notify(f"warning: {mistake}", "magenta")
    return tuple(found)


def _check_here(file: Path, cluster: Cluster, document: Document) -> tuple[Mistake, ...]:
    """Checks what the worker needs to log on: on this machine, unless workers that run elsewhere will be used.

    Returns:
        The warnings, which are also printed.

    Raises:
        ClusterRefused: something is missing. A warning is printed instead when other workers will be used.
        InputRefused: the URL of the broker or of the store is invalid.
    """
    settings = load_settings()
    _check_addresses(settings)
    here = found_here(file, cluster, document, settings)
    if here.missing and settings.broker_url is None and not _up_runs(settings.state):
        raise ClusterRefused(str(file), here.missing)
    for mistake in (*here.missing, *here.warnings):
        notify(f"warning: {mistake}", "magenta")
    if here.missing:
        notify("  Fix: ignore this if the workers have it: other processes than this command log on", "magenta")
    return (*here.missing, *here.warnings)


def _check_addresses(settings: Settings) -> None:
    """Checks the addresses of the broker and the run store, if there are any."""
    if settings.broker_url is None and settings.store_url is None:
        return
    from workers.redis.address import BROKER, STORE, verified  # noqa: PLC0415 - loads TLS, most often for nothing

    for url, variable in ((settings.broker_url, BROKER), (settings.store_url, STORE)):
        if url is not None:
            verified(url, variable)


def _up_runs(state: Path) -> bool:
    from pipelines.local.state import command_here  # noqa: PLC0415 - most files have all they need, and start faster

    return command_here(state) == "up"
