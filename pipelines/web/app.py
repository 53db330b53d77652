"""The application of `esync serve`: routes for programs and for browsers, behind one guard; and the server process.

`python -m pipelines.web.app [--listen HOST:PORT] [--spare PORT] [--access FILE]` serves it. Settings, and with them
every secret, come from the environment. It prints its address when it listens; logs go to stderr.
"""

import argparse
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI

from pipelines.engine import Engine, connect_engine
from pipelines.web import logon
from pipelines.web.access import Access, load_access
from pipelines.web.api import clusters as clusters_api
from pipelines.web.api import description, events, explanations, groups, results, runs, steering, tokens
from pipelines.web.attendance import Waiting
from pipelines.web.guard import Guard
from pipelines.web.problems import handle_errors
from pipelines.web.served import parts_of
from pipelines.web.server import address_in, bound_socket, server_for, url_of
from workers.errors import EsyncError
from workers.logs import configure
from workers.redis.connection import PROMPT
from workers.settings import load_settings

__all__ = ["create_app", "main"]

PAGES = "pipelines.web.pages.routes"


def create_app(engine: Engine, access: Access, clusters: Path | None = None) -> FastAPI:
    """The application.

    Args:
        engine: the run store and the broker.
        access: who is answered.
        clusters: the folder of the cluster files that callers may name.
    """
    app = FastAPI(
        title="esync",
        version="1",
        summary="Set Ektron eSync up on every server of a load-balanced cluster, and prove that it is joined.",
        redirect_slashes=False,  # it would redirect to http behind a proxy that speaks HTTPS
        openapi_url=None,  # ours needs a role, as everything does
        generate_unique_id_function=lambda route: route.name,  # what a generated client calls an operation
        lifespan=_lifespan,
    )
    app.state.served = parts_of(engine, access, clusters)
    app.state.waiting = Waiting(engine)
    for api in (clusters_api, runs, groups, steering, events, results, explanations, tokens, description):
        app.include_router(api.router, prefix="/api/v1")
    app.include_router(logon.router)
    pages = import_module(PAGES)
    app.include_router(pages.router)
    handle_errors(app, pages.problem_page)
    app.add_middleware(Guard, hosts=access.hosts, as_page=pages.problem_page)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.served.streams.close()


def main(arguments: Sequence[str]) -> int:
    """Serves until it is ended; returns the exit status."""
    parser = argparse.ArgumentParser("python -m pipelines.web.app")
    parser.add_argument("--listen", default="127.0.0.1:8470", help="address")
    parser.add_argument("--spare", type=int, help="port, if that of --listen is taken")
    parser.add_argument("--access", type=Path, help="the access file")
    given = parser.parse_args(arguments)
    try:
        _serve(given.listen, given.spare, given.access)
    except EsyncError as error:
        remedy = f"; {error.remedy}" if error.remedy else ""
        print(f"esync serve: {error}{remedy}", file=sys.stderr)  # noqa: T201 - the log
        return error.exit_code
    return 0


def _serve(listen: str, spare: int | None, file: Path | None) -> None:
    settings = load_settings()
    configure(settings.log_level)
    access = load_access(file) if file else Access()
    host, port = address_in(listen)
    server = server_for(create_app(connect_engine(settings, PROMPT), access, settings.clusters))
    with bound_socket(host, port, spare) as listening:
        print(url_of(listening), flush=True)  # noqa: T201 - read by the process that started this one
        with suppress(KeyboardInterrupt):  # the server has ended in order, and repeats the signal
            server.run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
