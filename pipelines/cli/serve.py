"""`esync serve`: the page and the API, for a broker whose workers run elsewhere. Becomes the server process."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.local.page import LISTEN, page_installed, require_clusters
from pipelines.local.processes import environment
from pipelines.local.reading import broker_folder, seal_key
from pipelines.local.services import environment_of
from pipelines.local.state import require_readable
from workers.errors import InputRefused
from workers.redis.address import verified
from workers.redis.running import running
from workers.secrets.seal import missing_key
from workers.settings import load_settings

__all__ = ["serve"]


def serve(
    *,
    clusters: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder of the cluster files.", exists=True, file_okay=False, resolve_path=True
        ),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = LISTEN,
    access: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The access file (docs/api.md).", dir_okay=False, resolve_path=True),
    ] = None,
) -> None:
    """Serve the page and the HTTP API until Ctrl-C. Without a broker in the environment use `esync up`."""
    settings = load_settings()
    if not page_installed():
        raise InputRefused("the page is not installed", remedy="install it: pip install 'esync-rollout[serve]'")
    require_clusters(clusters or settings.clusters)
    if settings.broker_url is None:
        require_readable(settings.state)
    broker = settings.broker_url or running(broker_folder(settings))
    if broker is None:
        raise InputRefused(
            "no broker is configured, and none runs here",
            remedy="`esync up` starts a broker, workers and the page; or set ESYNC_BROKER_URL",
        )
    if settings.broker_url is not None and settings.seal_key is None:
        raise missing_key()
    verified(broker)
    given = settings.model_copy(update={"clusters": clusters}) if clusters else settings
    own = environment(environment_of(given, broker, seal_key(settings)))
    arguments = ["-m", "pipelines.web.app", "--listen", listen, *(["--access", str(access)] if access else [])]
    os.execve(sys.executable, [sys.executable, *arguments], own)  # noqa: S606 - no shell, and no text of others
