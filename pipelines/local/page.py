"""The page and the API of this machine: a server process, and a token to log on with."""

import importlib.util
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pipelines.engine import Engine
from pipelines.local.processes import Child
from pipelines.usecases.tokens import Grant, Role, create_token, token_of
from workers.errors import InputRefused
from workers.host.private import write_private
from workers.settings import Settings

__all__ = ["LISTEN", "PAGE", "page_child", "page_installed", "page_token", "require_clusters"]

PAGE = "page"
LISTEN = "127.0.0.1:8470"  #: a port that does not change, so that people can keep the address
LIFETIME = timedelta(days=365)


def page_installed() -> bool:
    """Whether what the page needs is installed."""
    return all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn"))


def require_clusters(folder: Path | None) -> None:
    """Passes if the folder of the cluster files is there, or none is set.

    Raises:
        InputRefused: it is not there, or cannot be read: the page would show no cluster, and not say why.
    """
    if folder is not None and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise InputRefused(
            f"ESYNC_CLUSTERS is no folder that can be read: {folder}; nothing was started",
            remedy="name the folder of your cluster files, or unset it",
        )


def page_child(settings: Settings, own: Mapping[str, str], spare: int) -> Child:
    """The server process; it prints its address when it listens.

    Args:
        settings: of this machine.
        own: its environment: broker, store and seal key.
        spare: the port if the usual one is taken.
    """
    return Child(
        PAGE,
        ["-m", "pipelines.web.app", "--listen", LISTEN, "--spare", str(spare)],
        folder=settings.state,
        log=settings.state / "logs" / f"{PAGE}.log",
        own=own,
        output=settings.state / f"{PAGE}.ready",
    )


def page_token(engine: Engine, file: Path) -> None:
    """Keeps a token for this machine's administrator in a file that only its owner can read."""
    if file.exists() and token_of(engine, file.read_text("ascii", "replace").strip()):
        return
    _, text = create_token(engine, "this machine", Grant(role=Role.ADMIN), LIFETIME)
    write_private(file, text.reveal() + "\n")
