#!/usr/bin/env python3
"""IIS with Application Request Routing, for `kind: command`. Adapt it; it was not tested against a server.

arr.py FARM SERVER VERB. It calls PowerShell on the ARR server over SSH, with the host and the key of the account's own
SSH configuration (`Host arr`): a host that only allows this is enough. States of ARR: 0 available, 1 drain.
"""

import json
import re
import subprocess
import sys

SCRIPT = r"""
Import-Module WebAdministration
[void][Reflection.Assembly]::LoadWithPartialName('Microsoft.Web.Administration')
$farm = (New-Object Microsoft.Web.Administration.ServerManager).GetApplicationHostConfiguration().
    GetSection('webFarms').GetCollection() | Where-Object { $_['name'] -eq 'FARM' }
$server = $farm.GetCollection() | Where-Object { $_['address'] -eq 'SERVER' }
$arr = $server.GetChildElement('applicationRequestRouting')
if ('VERB' -eq 'state') {
    $counters = $arr.GetChildElement('counters')
    '{0} {1} {2}' -f $counters['state'], $counters['isHealthy'], $counters['currentRequests']
} else {
    $method = $arr.Methods['SetState'].CreateInstance()
    $method.Input.Attributes[0].Value = if ('VERB' -eq 'drain') { 1 } else { 0 }
    $method.Execute()
}
"""


def main() -> None:
    """Does what the arguments say."""
    farm, server, verb = sys.argv[1:]
    if not all(re.fullmatch(r"[A-Za-z0-9._-]+", word) for word in (farm, server, verb)):
        sys.exit("names are letters, digits, '.', '_' and '-'")
    script = SCRIPT.replace("FARM", farm).replace("SERVER", server).replace("VERB", verb)
    command = ["ssh", "-o", "BatchMode=yes", "arr", "powershell", "-NoProfile", "-Command", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=9)
    if done.returncode:
        sys.exit(done.stderr)
    if verb == "state":
        state, healthy, requests = done.stdout.split()
        named = "draining" if state != "0" else "ready" if healthy == "True" else "down"
        print(json.dumps({"state": named, "sessions": int(requests)}))


main()
