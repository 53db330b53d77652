"""Many browsers on the stream of one run, as one process: `python -m tests.benchmarks.watching URL RUN COUNT`.

The token comes on standard input. At the end of the run a line of JSON says what was received, and how late.
"""

import asyncio
import json
import re
import sys
import time
from urllib.parse import urlsplit

MARK = re.compile(rb"mark (\d+\.\d+)")


class Watchers:
    """What all of them have received."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.bytes = 0
        self.messages = 0
        self.ended = 0

    async def watch(self, url: str, run: str, token: str) -> None:
        """One browser: reads until the server says that the run has ended, and connects again as a browser does."""
        while not await self._connection(url, run, token):  # noqa: ASYNC110 - as a browser
            await asyncio.sleep(1)

    async def _connection(self, url: str, run: str, token: str) -> bool:
        place, first = urlsplit(url), True
        reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**24)
        head = f"GET /moves?run={run} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
        ended = False
        while not ended and (line := await reader.readline()):
            self.bytes += len(line)
            ended = line.startswith(b"event: end")
            if line.startswith(b"data: ") and not ended:
                self.messages += 1
                now = time.time()
                self.late += [now - float(mark) for mark in MARK.findall(line)[-1:] if not first]
                first = False  # that has the lines of the past
        self.ended += ended
        writer.close()
        return ended


async def _main(url: str, run: str, count: int, token: str) -> None:
    watchers = Watchers()
    await asyncio.gather(*(watchers.watch(url, run, token) for _ in range(count)))
    late = sorted(watchers.late)
    found = {
        "ended": watchers.ended,
        "messages": watchers.messages,
        "megabytes": watchers.bytes / 1e6,
        "marks": len(late),
        "median": late[len(late) // 2] if late else 0.0,
        "p99": late[len(late) * 99 // 100] if late else 0.0,
        "latest": late[-1] if late else 0.0,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.stdin.readline().strip()))
