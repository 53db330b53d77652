"""Connections to the server that Sentinels know: each new connection asks them which server is the primary now.

One place for our own client, for messages (kombu) and for results (Celery): both libraries can do it by themselves, but
with two more forms of the URL, a password in each of several hosts, and waits that nothing bounds.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from workers.redis.address import Address

__all__ = ["Sentinels", "sentinels_of"]

ANSWER = 2.0  #: seconds that one Sentinel has to answer; then the next one is asked
_OF_HOST = frozenset({"host", "port"})


class _OneByOne(Sentinel):
    """Asks for one thread at a time: the library moves the Sentinel that answered to the front, without a lock."""

    def __init__(self, hosts: tuple[tuple[str, int], ...], **options: Any) -> None:  # noqa: ANN401 - of the library
        super().__init__(hosts, **options)  # type: ignore[no-untyped-call] # the library has no types here
        self._turn = threading.Lock()

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the primary."""
        with self._turn:
            host, port = super().discover_master(service_name)  # type: ignore[no-untyped-call] # the same
        return host, port


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The Sentinels of an address."""

    address: Address

    def __str__(self) -> str:
        hosts = ", ".join(f"{host}:{port}" for host, port in self.address.sentinels)
        return f"{self.address.master} (Sentinels {hosts})"

    def __json__(self) -> str:
        """For `celery inspect stats`."""
        return str(self)

    def pool(
        self, options: Mapping[str, Any], kind: type[SentinelConnectionPool] = SentinelConnectionPool, **more: object
    ) -> SentinelConnectionPool:
        """A pool of connections to the primary.

        Args:
            options: of the connections to the server, as the library has them; host and port do not count.
            kind: the class of the pool.
            more: options of that class.
        """
        own = {name: value for name, value in options.items() if name not in _OF_HOST}
        managed = SentinelManagedSSLConnection if self.address.tls else SentinelManagedConnection
        if not issubclass(own.get("connection_class", object), SentinelManagedConnection):
            own["connection_class"] = managed
        return kind(self.address.master, self._manager(), **own, **more)

    def _manager(self) -> Sentinel:
        # Without retries of its own: who asks repeats the request, and with the default (ten) one host that is down
        # would take a minute.
        asking: dict[str, Any] = {
            "socket_timeout": ANSWER,
            "socket_connect_timeout": ANSWER,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "username": self.address.user or None,
            "password": self.address.password.reveal() or None,
        }
        if self.address.tls:
            asking |= {"ssl": True, **dict(self.address.tls)}
        return _OneByOne(self.address.sentinels, sentinel_kwargs=asking)


def sentinels_of(address: Address) -> Sentinels | None:
    """The Sentinels of an address; None when it names the server itself."""
    return Sentinels(address) if address.sentinels else None
