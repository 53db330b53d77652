#!/usr/bin/env python3
"""F5 BIG-IP over iControl REST, for `kind: command`. Adapt it; it was not tested against a device.

f5.py POOL PORT SERVER VERB. Variables: F5_HOST, F5_TOKEN (a token of a user with the role Operator), F5_CA (a CA file).
The members of the pool are named `SERVER:PORT`.
"""

import json
import os
import ssl
import sys
import urllib.parse
import urllib.request
from typing import Any


def call(method: str, path: str, body: object = None) -> Any:
    """The answer of one request."""
    request = urllib.request.Request(
        f"https://{os.environ['F5_HOST']}/mgmt/tm/ltm/pool/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-F5-Auth-Token": os.environ["F5_TOKEN"], "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=os.environ.get("F5_CA"))
    with urllib.request.urlopen(request, timeout=8, context=trust) as reply:
        return json.load(reply)


def main() -> None:
    """Does what the arguments say."""
    pool, port, server, verb = sys.argv[1:]
    member = f"{pool.replace('/', '~')}/members/~Common~{urllib.parse.quote(server)}:{port}"
    if verb == "state":
        known = call("GET", member)
        statistics = call("GET", f"{member}/stats")["entries"]
        (values,) = (entry["nestedStats"]["entries"] for entry in statistics.values())
        if known["session"] == "user-disabled":
            state = "draining"
        else:
            state = "ready" if known["state"] in {"up", "unchecked"} else "down"
        print(json.dumps({"state": state, "sessions": values["serverside.curConns"]["value"]}))
    else:
        call("PATCH", member, {"session": "user-disabled" if verb == "drain" else "user-enabled"})


main()
