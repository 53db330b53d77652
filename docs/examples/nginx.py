#!/usr/bin/env python3
"""nginx without its commercial API, for `kind: command`. Adapt it.

nginx.py FOLDER SERVER VERB. The upstream includes a file for each server, which holds one line:

    upstream www { include /etc/nginx/pool/*.conf; }        # pool/web1.conf: server 10.0.0.1:80;

A drained server is marked `down` there. nginx does not tell how many sessions are open, so esync waits `noticed_after`.
Its account needs the right to write to the folder and to reload nginx (`RELOAD`).
"""

import json
import re
import subprocess
import sys
from pathlib import Path

RELOAD = ["sudo", "-n", "systemctl", "reload", "nginx"]


def main() -> None:
    """Does what the arguments say."""
    folder, server, verb = sys.argv[1:]
    if not re.fullmatch(r"[A-Za-z0-9._-]+", server):
        sys.exit("a server is a word of letters, digits, '.', '_' and '-'")
    file = Path(folder, f"{server}.conf")
    line = file.read_text()
    is_down = re.search(r"\sdown\s*;", line) is not None
    if verb == "state":
        print(json.dumps({"state": "draining" if is_down else "ready"}))
        return
    if is_down == (verb == "drain"):
        return
    wanted = re.sub(r"\s+down\s*;", ";", line) if is_down else re.sub(r"\s*;", " down;", line, count=1)
    new = file.with_suffix(".new")
    new.write_text(wanted)
    new.replace(file)
    subprocess.run(RELOAD, check=True, timeout=8)


main()
