"""`esync` as a program that is there at once: a process that has loaded its packages forks for each call.

A call has its own environment, folder, standard streams and exit status; loading takes most of the CPU time of a short
command. Signals do not reach it: a test of signals starts the real program, and so does one of how it starts.
"""

import atexit
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pipelines.cli
from pipelines.cli.entry import main
from tests.places import ROOT
from tests.warm import WarmProcess

__all__ = ["warm_esync"]

_MOST = 1 << 20  #: bytes of a call
_READY = b"ready"
_PROGRAM = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect("SOCKET")
    call = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    socket.send_fds(server, [json.dumps(call).encode()], [0, 1, 2])
    sys.exit(int(server.recv(16)))
"""


@contextmanager
def warm_esync(folder: Path) -> Iterator[Path]:
    """A program to be used as `esync` during the block; `folder` is for it and has a short path."""
    place, program = folder / "calls", folder / "esync"
    program.write_text(_PROGRAM.replace("SOCKET", str(place)))
    program.chmod(0o700)
    ready, output = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = WarmProcess("tests.warm_command", str(place), environment=environment, output=output)
    os.close(output)
    try:
        with os.fdopen(ready, "rb") as printed:
            said = printed.read(len(_READY))
            assert said == _READY, said + printed.read()
            yield program
    finally:
        server.kill()
        server.wait()


def _serve(place: str) -> NoReturn:
    """Answers calls until it is killed."""
    for module in pkgutil.iter_modules(pipelines.cli.__path__, "pipelines.cli."):
        importlib.import_module(module.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        os.write(1, _READY)
        while True:
            call, _ = listener.accept()
            if not os.fork():
                listener.close()
                _answer(call)
            call.close()


def _answer(call: socket.socket) -> NoReturn:
    """Runs the command in a process of its own, and sends its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said, streams, *_ = socket.recv_fds(call, _MOST, 3)
    pid = os.fork()
    if not pid:
        call.close()
        _become(streams, **json.loads(said))
    for stream in streams:
        os.close(stream)
    with suppress(BrokenPipeError):  # the caller has ended
        call.sendall(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _become(streams: Sequence[int], arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> NoReturn:
    """Becomes `esync`."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["esync", *arguments]
    status: object = 1
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    finally:
        atexit._run_exitfuncs()  # a forked process ends without them
        sys.stdout.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
