"""`python -m lab --dir DIR`: runs a lab until it receives SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web

from lab.config import DEFAULT_ADDRESSES, LabConfig, changed, generated, load, shipped
from lab.control.api import control_app
from lab.control.running import Lab, write_private
from lab.machine.errors import ConfigRefused, Refusal
from lab.winrm.sockets import bound_socket

_IDLE_CHECK_SECONDS = 5.0


def main() -> int:
    """Starts a lab, prints one line of JSON when every node listens, and waits for a signal."""
    arguments = _parser().parse_args()
    folder = Path(arguments.dir).resolve()
    try:
        with _locked(folder):
            _allow_many_sockets()
            asyncio.run(_serve(Lab(_configuration(arguments), folder)))
    except (ConfigRefused, Refusal) as error:
        print(f"lab: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Simulated Windows servers on loopback.")
    parser.add_argument("--dir", required=True, help="folder for its files; kept between starts")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--config", help="a lab file (YAML); see lab/config.py")
    which.add_argument("--nodes", type=int, help="generate this many nodes")
    parser.add_argument("--address", help=f"address range of generated nodes: {DEFAULT_ADDRESSES}")
    parser.add_argument("--disk", choices=("folder", "memory"), help="where to store the disks of the servers")
    parser.add_argument("--edition", help="edition of the product: 8.0, 8.5 or 9.1")
    return parser


def _configuration(arguments: argparse.Namespace) -> LabConfig:
    if arguments.config:
        config = load(Path(arguments.config))
    elif arguments.nodes is not None:
        config = generated(arguments.nodes, arguments.address or DEFAULT_ADDRESSES)
    elif arguments.address is not None:
        raise ConfigRefused("--address is the range of generated nodes; give --nodes, too")
    else:
        config = shipped()
    changes = {name: getattr(arguments, name) for name in ("disk", "edition") if getattr(arguments, name)}
    return changed(config, changes) if changes else config


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lab.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigRefused(
            f"folder {folder} cannot be used: {reason}; give one with --dir that you may write to"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigRefused(f"another lab is running in {folder}; stop it, or use another --dir") from None
    finally:
        os.close(descriptor)


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _settle_memory() -> None:
    """Excludes the simulated files from garbage collection: there are very many, and they contain no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def _serve(lab: Lab) -> None:
    started = time.monotonic()
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    try:
        await lab.start()
        _settle_memory()
        async with _controlled(lab) as control:
            ready = {
                "ready": True,
                "dir": str(lab.folder),
                "cluster": str(lab.cluster_file),
                "control": control,
                "nodes": [node.machine.name for node in lab.nodes.values()],
                "seconds": round(time.monotonic() - started, 3),
            }
            print(json.dumps(ready), flush=True)  # noqa: T201 - this program's output
            while not end.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(end.wait(), _IDLE_CHECK_SECONDS)
                lab.end_idle_shells()
    finally:
        await lab.stop()


@contextlib.asynccontextmanager
async def _controlled(lab: Lab) -> AsyncIterator[str]:
    token = secrets.token_urlsafe(24)
    runner = web.AppRunner(control_app(lab.nodes, token), access_log=None, handle_signals=False)
    await runner.setup()
    listener = bound_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await web.SockSite(runner, listener).start()
    write_private(lab.folder / "lab.json", lab.describe(url, token))
    try:
        yield url
    finally:
        lab.forget()
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
