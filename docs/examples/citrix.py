#!/usr/bin/env python3
"""Citrix ADC (NetScaler) over NITRO, for `kind: command`. Adapt it; it was not tested against a device.

citrix.py GROUP PORT SERVER VERB: the service group, and the port of its members. Variables: ADC_HOST, ADC_USER,
ADC_PASSWORD, ADC_CA (a CA file).
"""

import json
import os
import ssl
import sys
import urllib.request
from typing import Any


def call(method: str, path: str, body: object = None) -> Any:
    """The answer of one request."""
    request = urllib.request.Request(
        f"https://{os.environ['ADC_HOST']}/nitro/v1/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "X-NITRO-USER": os.environ["ADC_USER"],
            "X-NITRO-PASS": os.environ["ADC_PASSWORD"],
            "Content-Type": "application/json",
        },
    )
    trust = ssl.create_default_context(cafile=os.environ.get("ADC_CA"))
    with urllib.request.urlopen(request, timeout=8, context=trust) as reply:
        return json.loads(reply.read() or b"{}")


def main() -> None:
    """Does what the arguments say."""
    group, port, server, verb = sys.argv[1:]
    member = {"servicegroupname": group, "servername": server, "port": int(port)}
    if verb == "state":
        path = f"stat/servicegroupmember?args=servicegroupname:{group},servername:{server},port:{port}"
        (known,) = call("GET", path)["servicegroupmember"]
        states = {"UP": "ready", "OUT OF SERVICE": "draining", "GOING OUT OF SERVICE": "draining"}
        sessions = int(known.get("curclntconnections", 0))
        print(json.dumps({"state": states.get(known["state"], "down"), "sessions": sessions}))
    elif verb == "drain":
        call("POST", "config/servicegroup?action=disable", {"servicegroup": {**member, "graceful": "YES"}})
    else:
        call("POST", "config/servicegroup?action=enable", {"servicegroup": member})


main()
