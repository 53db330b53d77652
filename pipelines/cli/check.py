"""`esync check`: a cluster file and what it needs on this machine. Contacts no server."""

from pathlib import Path

import typer

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    CommandExit,
    describe,
    notify,
    print_json,
)
from pipelines.cluster_file.here import found_here
from pipelines.cluster_file.loader import ClusterRefused, load_with_document
from pipelines.cluster_file.mistakes import Mistake
from pipelines.cluster_file.positions import Document
from tasks.cluster import Cluster
from workers.settings import Settings, load_settings

__all__ = ["check"]


def check(file: ClusterFile, *, as_json: AsJson = False) -> None:
    """Read a cluster file and list every mistake in it. Contacts no server."""
    try:
        cluster, document = load_with_document(file)
        warnings = _check_here(file, cluster, document)
    except ClusterRefused as refused:
        if as_json:
            mistakes = [mistake.model_dump() for mistake in refused.mistakes]
            print_json({"ok": False, "cluster": None, "nodes": 0, "problems": mistakes, "warnings": []})
            raise CommandExit(refused.exit_code) from None
        raise
    if as_json:
        listed = [mistake.model_dump() for mistake in warnings]
        print_json(
            {"ok": True, "cluster": cluster.name, "nodes": len(cluster.nodes), "problems": [], "warnings": listed}
        )
    else:
        typer.echo(f"{file}: cluster {describe(cluster)}: no mistakes")


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
