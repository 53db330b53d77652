"""Connections whose whole exchange ends at one time: a site that sends a byte now and then does not last longer."""

import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

from httpcore import ConnectTimeout, NetworkBackend, NetworkStream, ReadTimeout, SyncBackend, WriteTimeout

__all__ = ["BoundedBackend"]


class BoundedBackend(NetworkBackend):
    """Opens connections that end so many seconds after the backend was made."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._backend = SyncBackend()

    def left(self, late: type[Exception]) -> float:
        """The seconds that are left; raises `late` when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise late("the time for this request is over")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        """As the backend of the library."""
        del timeout
        stream = self._backend.connect_tcp(host, port, self.left(ConnectTimeout), local_address, socket_options)
        return _BoundedStream(stream, self)

    def sleep(self, seconds: float) -> None:
        """Waits; the library calls it only for retries, and there are none."""
        time.sleep(seconds)


class _BoundedStream(NetworkStream):
    def __init__(self, stream: NetworkStream, backend: BoundedBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, self._backend.left(ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, self._backend.left(WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        del timeout
        left = self._backend.left(ConnectTimeout)
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._backend)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as the library
        return self._stream.get_extra_info(info)
