"""Ports of this machine for programs that a test starts."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["kept_ports"]


@contextmanager
def kept_ports(count: int = 1) -> Iterator[list[int]]:
    """Free ports of 127.0.0.1 that no other program gets until the end of the block.

    They are bound here. A server that sets SO_REUSEADDR, as all do that are tested here, can listen on them.
    """
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
        yield [int(holder.getsockname()[1]) for holder in holders]
