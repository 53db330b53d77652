"""The agent's cases as on a real Windows host, over WinRM and TLS, but on a nearly-Windows machine.

A choice of them, as all take three minutes; `WINDOWS_TEST_ALL_CASES=1` runs all.
"""

import os
import re
import subprocess
import sys

import pytest

from tests.integration.harness import cluster_of
from tests.sampling import in_turn
from tests.windows.machines import EXE, SERVICE, Farm

WHOLE = bool(os.environ.get("WINDOWS_TEST_ALL_CASES"))
pytestmark = [
    pytest.mark.windows,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    *([] if WHOLE else [in_turn(1, 2, "a Windows host")]),
]

#: Some cases of each operation and each kind of initial state, and the invalid requests.
_CHOICE = (
    "host-envelope or host-hello or host-clock or host-http or host-tcp or held or readonly or hidden or host-registry "
    "or host-service-query or host-service-stop or host-run or host-touch or host-version "
    "or host-write-backup or host-write-large or host-spread-some or host-mkdir or host-remove or host-path-odd "
    "or host-path-longer or host-list-kinds or host-guard-fence-newer or host-guard-folders-outside or as_it_was_found"
)


def test_the_cases_pass_on_a_host_that_the_variables_name(farm: Farm) -> None:
    """In another pytest that gets only the variables; afterwards nothing is left on the machine."""
    machine = farm.machines["P1"]
    endpoint = cluster_of(farm.lab).endpoint(machine.name)
    given = {
        "WINDOWS_TEST_HOST": endpoint.host,
        "WINDOWS_TEST_PORT": str(endpoint.port),
        "WINDOWS_TEST_USER": endpoint.user,
        "WINDOWS_TEST_PASSWORD": farm.lab.password,
        "WINDOWS_TEST_TRANSPORT": endpoint.transport.value,
        "WINDOWS_TEST_CA_FILE": str(farm.lab.ca_file),
        "WINDOWS_TEST_SERVICE_PROGRAM": rf"{SERVICE}\{EXE}.exe",
    }
    chosen = "[host or left_as_it_was_found or test_live" if WHOLE else f"({_CHOICE}) and not (pwsh or wine or lab)"
    command = [sys.executable, "-m", "pytest", "tests/contract/test_agent_protocol.py", "tests/live", "-q", "-n", "0"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-k", chosen],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout[-4000:]
    assert 0 == done.returncode, output
    passed = re.search(r"(\d+) passed", output)
    assert passed
    assert int(passed[1]) >= (200 if WHOLE else 50), output
    assert [] == list(machine.at(r"C:\ProgramData").glob("esync-agent-cases"))
    assert not machine.processes("needs.exe") + machine.processes("practice.exe")
