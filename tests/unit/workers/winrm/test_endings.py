"""A PowerShell that ended before it answered: the error, by its exit status and what was printed. One test a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import AccessDenied, EsyncError, Failure, NodeRefused, SessionLost
from workers.winrm.endings import Ending
from workers.winrm.known_answers import known

ERROR_ID = "ScriptContainedMaliciousContent"
MALICIOUS = f"{ERROR_ID}: This script contains malicious content and has been blocked by your antivirus software."
STARTS: dict[str, tuple[int, str, str, type[EsyncError], str, str]] = {
    "antivirus": (13, MALICIOUS, "", AccessDenied, "AMSI", "antivirus"),
    "antivirus, German": (13, f"{ERROR_ID}: Dieses Skript ...", "", AccessDenied, "AMSI", "antivirus"),
    "policy": (1, "This program is blocked by group policy.", "", AccessDenied, "AppLocker", "policy"),
    "no PowerShell": (
        1,
        "'powershell.exe' is not recognized as an internal or external command, operable program or batch file.",
        "",
        NodeRefused,
        "does not find powershell.exe",
        "PATH",
    ),
    "no PowerShell, German": (
        1,
        'Der Befehl "powershell.exe" ist entweder falsch geschrieben oder konnte nicht gefunden werden.',
        "",
        NodeRefused,
        "does not find powershell.exe",
        "PATH",
    ),
    "no PowerShell, Japanese": (
        1,
        "'powershell.exe' は、内部コマンドまたは外部コマンド、",
        "",
        NodeRefused,
        "does not find powershell.exe",
        "PATH",
    ),
    "AutoRun is broken": (
        1,
        r"'C:\tools\init.cmd' is not recognized as an internal or external command",
        "",
        NodeRefused,
        "AutoRun",
        "AutoRun",
    ),
    "AutoRun, no such path": (1, "The system cannot find the path specified.", "", NodeRefused, "AutoRun", "reg query"),
    "AutoRun ends cmd.exe": (7, "", "Bye", NodeRefused, "ended with status 7 before PowerShell", "AutoRun"),
    "AutoRun ends cmd.exe with 0": (0, "", "", NodeRefused, "ended with status 0 before PowerShell", "AutoRun"),
    "AutoRun takes input": (13, "FormatException: x", "Press any key", NodeRefused, "a part of the input", "AutoRun"),
    "AutoRun takes all input": (4, "", "> ", NodeRefused, "received no input", "AutoRun"),
    "no rights": (5, "Access is denied.", "", AccessDenied, "may not start PowerShell", "access rights"),
    "memory": (13, "OutOfMemoryException: x", "", NodeRefused, "too little memory", "MaxMemoryPerShellMB"),
    "framework": (1, "Version v4.0.30319 of the .NET Framework: x", "", NodeRefused, ".NET", "Management"),
    "old PowerShell": (13, "UnexpectedToken: x", "", NodeRefused, "does not accept the agent", "Framework 5.1"),
    "language mode": (3, "", "", NodeRefused, "restricted language mode", "full language mode"),
    "not accepted": (13, "TypeLoadException: x", "", NodeRefused, "did not run the agent", "PowerShell 3.0"),
    "something else": (1, "Something else", "", NodeRefused, "'Something else'", "AutoRun"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "stderr", "stdout", "kind", "says", "remedy"), STARTS.values(), ids=STARTS)
def test_a_start_that_failed_has_its_cause_and_one_attempt(
    status: int, stderr: str, stdout: str, kind: type[EsyncError], says: str, remedy: str
) -> None:
    """Nothing has run, so another attempt has the same result; what was printed is quoted."""
    error = Ending("S1", status, first=True, printed=(stderr, stdout)).error()
    assert kind is type(error)
    assert error.failure in {Failure.REFUSED, Failure.FAILED}
    assert error.message.startswith("S1: ")
    assert says in error.message
    assert remedy in error.remedy
    assert all(text in error.message.replace("\\\\", "\\") for text in (stderr, stdout))


@pytest.mark.parametrize("row", known().start, ids=lambda row: row.says)
def test_each_row_about_a_start_is_used_by_a_case_above(row: object) -> None:
    """A row that cannot be reached would be dead."""
    found = [known().of_start(stderr) or known().of_start(stdout) for _, stderr, stdout, *_ in STARTS.values()]
    assert row in found


@pytest.mark.parametrize("row", known().exit, ids=lambda row: hex(row.code))
@pytest.mark.parametrize("signed", [True, False])
def test_a_crash_leaves_the_result_unknown(row: object, signed: bool) -> None:  # noqa: FBT001 - a parameter
    """A new session observes what has run; the number is written with or without a sign."""
    code, says = row.code, row.says  # type: ignore[attr-defined]
    status = code - 2**32 if signed and code >= 2**31 else code
    error = Ending("S1", status, first=True, printed=("Access is denied.", "")).error()
    assert SessionLost is type(error)
    assert f"status {status} before it answered: it {says}." in error.message
    assert error.remedy


@given(st.integers(), st.booleans(), st.text(max_size=20), st.text(max_size=20))
def test_only_a_first_request_can_have_run_nothing(status: int, first: bool, stderr: str, stdout: str) -> None:  # noqa: FBT001
    """After an answer, or when the process was ended from outside, another session has to look."""
    error = Ending("S1", status, first, (stderr, stdout)).error()
    outside = status == 14 or not 0 <= status <= 65_535 or (status == 1 and not stderr and not stdout)
    assert isinstance(error, SessionLost) == (not first or outside)
