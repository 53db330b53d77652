"""Asks a URL all the time, in a process of its own: `python steady_requests.py URL`; prints its count when it is ended.

Each request has its own connection. A line of JSON: how many were asked, and how each failed one failed.
"""

import http.client
import json
import signal
import sys
import time
from urllib.parse import urlsplit

_PAUSE = 0.01  #: seconds between two requests


def main() -> None:
    """Until SIGTERM."""
    parts, asked = urlsplit(sys.argv[1]), 0
    failures: list[str] = []
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    while not ended:
        asked += 1
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
            if status != http.client.OK:
                failures.append(f"status {status}")
        except (OSError, http.client.HTTPException) as error:
            failures.append(type(error).__name__)
        finally:
            connection.close()
        if asked == 1:
            _tell("begun")
        time.sleep(_PAUSE)
    _tell(json.dumps({"asked": asked, "failures": failures}))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
