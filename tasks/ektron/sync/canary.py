"""The canary file: small, unique, and recognised by its name and its bytes on any server, without any record of it."""

import re

__all__ = ["GONE", "PREFIX", "STILL_RUNS", "canary_bytes", "canary_name", "run_of"]

PREFIX = "esync-canary-"
GONE, STILL_RUNS = "gone", "running"  #: what is kept of a removal: none may come any more, or the sync still runs
_NAME = re.compile(rf"{PREFIX}(\d{{8}}-\d{{6}}-[A-Za-z0-9._-]{{1,100}})\.[A-Za-z0-9]{{1,8}}", re.IGNORECASE)


def canary_name(run: str, extension: str) -> str:
    """The name of the file of a run; `extension` without its dot."""
    return f"{PREFIX}{run}.{extension}"


def canary_bytes(run: str) -> bytes:
    """The content of the file of a run: ASCII text. The id of a run is unique, so the bytes are, too."""
    return f"esync-rollout put this file here in run {run} to prove a sync. It can be deleted.\r\n".encode("ascii")


def run_of(name: str) -> str:
    """The run whose file has that name; empty for any other file."""
    match = _NAME.fullmatch(name)
    return match[1].lower() if match else ""
