"""The server of ESYNC_SERVER, and how a run there is followed to its end. What the remote verbs share."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from pipelines.cli.console import print_last, print_text, stderr_console
from pipelines.cli.exits import INTERRUPTED
from pipelines.cli.live import show_run
from pipelines.cli.results import print_result
from pipelines.cluster_file.names import SUFFIXES
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from pipelines.usecases.cluster_files import NAME
from pipelines.usecases.updates import Feed, RunUpdate, is_planned
from pipelines.web.client import EsyncClient
from workers.errors import InputRefused, NotFound, NotLoggedOn
from workers.host.reading import content_of
from workers.masks import hide
from workers.records import RunRecord, RunState, Status
from workers.settings import Secret, Settings, load_settings
from workers.texts import cleaned

__all__ = ["ServersFile", "ServersFiles", "connected", "followed", "progress_on", "updates_from"]

QUIET = 5.0  #: seconds without an event, after which the server is asked whether a worker answers


def _servers_file(name: str) -> str:
    """The name of a cluster file of the server.

    Raises:
        InputRefused: it is none, but perhaps a file of this machine.
    """
    if re.fullmatch(NAME, name) and Path(name).suffix not in SUFFIXES:
        return name
    stem = Path(name).stem
    near = stem if re.fullmatch(NAME, stem) else "shop"
    raise InputRefused(
        f"{cleaned(name, 100)!r} is not the name of a cluster file of the server, and ESYNC_SERVER is set",
        remedy=f"give its name there without folder and suffix, such as {near}; "
        "a server does not take the files and folders of this machine",
    )


ServersFile = Annotated[
    str,
    typer.Argument(metavar="FILE", help="The name of a cluster file of the server.", callback=_servers_file),
]
ServersFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Names of cluster files of the server.",
        show_default=False,
        callback=lambda names: [_servers_file(name) for name in names],
    ),
]
_ASK = "an administrator makes one: esync token create"
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@contextlib.contextmanager
def connected() -> Iterator[EsyncClient]:
    """The server of the environment.

    Raises:
        InputRefused: there is no token for it, or it would be sent unencrypted; or the authorities cannot be read.
    """
    settings = load_settings()
    server, token = settings.server or "", _token(settings)
    if not server.startswith("https://") and urlsplit(server).hostname not in _THIS_MACHINE:
        raise InputRefused(
            "ESYNC_SERVER is not https, and the token would be readable on its way; nothing was sent",
            remedy="give the address with https://; docs/api.md says how a server gets one",
        )
    hide(token)
    with _client(server, token) as client:
        try:
            yield client
        except NotLoggedOn as error:
            error.remedy = f"check ESYNC_TOKEN or ESYNC_TOKEN_FILE: {_ASK}"
            raise
        except NotFound as error:
            error.remedy = error.remedy or "check ESYNC_SERVER: it is the address of the page, without /api/v1"
            raise


def _client(server: str, token: Secret) -> EsyncClient:
    if not re.fullmatch(r"[!-~]+", token.reveal()):
        raise InputRefused(
            "the token has characters that no token has; nothing was sent", remedy=f"copy it again: {_ASK}"
        )
    try:
        return EsyncClient(server, token)
    except OSError as error:  # the authorities, which are read now
        raise InputRefused(
            f"the file of SSL_CERT_FILE cannot be used: {error.strerror or 'no certificates'}; nothing was sent",
            remedy="name a PEM file with the certificates of your authority, or unset SSL_CERT_FILE",
            file=os.environ.get("SSL_CERT_FILE", ""),
        ) from None


def _token(settings: Settings) -> Secret:
    if settings.token is not None:
        return Secret(settings.token.reveal().strip())
    if settings.token_file is not None:
        return Secret(content_of(settings.token_file, 1000, "token file").decode("ascii", "replace").strip())
    raise InputRefused(
        "ESYNC_SERVER is set, and there is no token for it",
        remedy=f"set ESYNC_TOKEN, or ESYNC_TOKEN_FILE; {_ASK}",
    )


def followed(client: EsyncClient, record: RunRecord, *, verbose: bool) -> Report:
    """Follows a run to its end, prints the result and returns its report."""
    people = stderr_console()
    print_text(people, f"run {record.id}")
    try:
        show_run(updates_from(client, record.id), people, verbose=verbose)
    except INTERRUPTED:
        print_last(people, f"\nThis command stops; the run continues.\nTo watch it: esync watch {record.id}")
        raise
    shown = client.report(record.id)
    print_result(shown, people, verbose=verbose)
    return shown


def updates_from(client: EsyncClient, run: str) -> Feed:
    """Updates of a run; when it does not move, the server is asked from time to time whether a worker answers."""
    asked, waiting, left = time.monotonic(), "", None
    idle: frozenset[str] | None = None

    def update(after: str) -> RunUpdate:
        nonlocal asked, waiting, idle, left
        record = client.record(run)  # before the events: when it is concluded, none that led to it can be missing
        if idle is None and is_planned(record):
            idle = _idle(client, record)  # once: a plan does not change any more
        events = client.history(run, after)
        if events:
            asked, waiting = time.monotonic(), ""
        elif record.state is not RunState.CONCLUDED and time.monotonic() - asked > QUIET:
            status = client.status(run)
            waiting, left = status.waiting, status.begins_in
            asked = time.monotonic()
        return RunUpdate(record, events, _refuted(client, record), waiting, idle or frozenset(), left)

    return update


def _idle(client: EsyncClient, record: RunRecord) -> frozenset[str]:
    """The nodes on which the plan has nothing to do."""
    if record.state is RunState.CONCLUDED or not is_planned(record):
        return frozenset()
    return frozenset(node.node for node in client.report(record.id).nodes if node.status is Status.UNCHANGED)


def _refuted(client: EsyncClient, record: RunRecord) -> frozenset[str]:
    early = kind_of(record.kind, record.id).checked_early(turn.stage for turn in record.turns)
    if early or record.state is not RunState.CONCLUDED:
        return frozenset()
    findings = client.report(record.id).findings
    return frozenset(node for one in findings if one.label == "refuted" for node in one.nodes)


def progress_on(client: EsyncClient, record: RunRecord) -> Progress:
    """The progress of a run, from all its events so far."""
    progress, after = Progress(record, kind_of(record.kind, record.id)), ""
    while events := client.history(record.id, after):
        progress.take(record, events)
        after = events[-1].id
    progress.refuted = _refuted(client, record)
    progress.know_idle(_idle(client, record))
    progress.begins_in = client.status(record.id).begins_in if progress.held else None
    return progress
