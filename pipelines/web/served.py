"""What all requests of one server share: the engine, what it accepts, the streams of runs. No state of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from starlette.requests import HTTPConnection

from pipelines.engine import Engine
from pipelines.web.access import Access
from pipelines.web.limits import Limit, Open, limit_for
from pipelines.web.openid import Provider
from pipelines.web.streams import Streams

__all__ = ["Served", "parts_of", "served"]


@dataclass(frozen=True)
class Served:
    """The parts of one server.

    Attributes:
        clusters: the folder of the cluster files that callers may name; None for no folder.
        streams: the events of runs, for any number of listeners.
        logons: limits failed logons, by address.
        begun: limits logons that are begun at the provider, by address: each is kept for some minutes.
        starts: limits requests for runs, by caller.
        open: limits the streams of a caller that are open at this server.
        openid: the provider of the access file; None without one.
    """

    engine: Engine
    access: Access
    clusters: Path | None
    streams: Streams = field(repr=False)
    logons: Limit = field(repr=False)
    begun: Limit = field(repr=False)
    starts: Limit = field(repr=False)
    open: Open = field(repr=False)
    openid: Provider | None = field(repr=False)


def parts_of(engine: Engine, access: Access, clusters: Path | None) -> Served:
    """The parts of a new server."""
    return Served(
        engine=engine,
        access=access,
        clusters=clusters,
        streams=Streams(engine.store),
        logons=limit_for(engine.settings, "failed logons", access.logons),
        begun=limit_for(engine.settings, "logons", access.logons),
        starts=limit_for(engine.settings, "requests for runs", access.starts),
        open=Open(access.streams),
        openid=Provider(access.openid, access.url, engine.vault) if access.openid else None,
    )


def served(connection: HTTPConnection) -> Served:
    """The parts of the server that answers this request; a dependency of every route."""
    return cast("Served", connection.app.state.served)
