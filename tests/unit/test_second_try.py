"""What a second try hides, it names; and it hides little."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

CONFTEST = """
from pathlib import Path
from tests.second_try import SecondTry

def pytest_configure(config):
    config.pluginmanager.register(SecondTry(Path(__file__).parent, most={most}))
"""
#: The fixture is of the module, and passes with its tests through the first try.
SHAKY = """
from pathlib import Path
import pytest

@pytest.fixture(scope="module")
def shared():
    yield "shared"

@pytest.mark.parametrize("number", range(2))
def test_shaky(number, shared):
    mark = Path(__file__).with_name(f"{number}.tried")
    if not mark.exists():
        mark.touch()
        raise RuntimeError("too late\\nby far")
"""
BROKEN = "def test_broken(): assert 1 == 2\n"


def ran(folder: Path, most: int, **files: str) -> tuple[int, str]:
    """The exit status and the output of pytest on such files, spread over processes as `make test` does it."""
    (folder / "conftest.py").write_text(CONFTEST.format(most=most))
    for name, text in files.items():
        (folder / name).mkdir()
        (folder / name / f"test_{name}.py").write_text(text)
    options = ["-n", "1", "--dist", "loadfile", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist",
        "-p",
        "rerunfailures",
        *options,
        "--rootdir",
        str(folder),
        str(folder),
    ]
    own = {**os.environ, "EXHAUSTIVE": "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the others take long to load
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("most", "status"), [(2, 0), (1, 1)])
def test_a_second_try_is_named_and_too_many_fail_the_run(tmp_path: Path, most: int, status: int) -> None:
    """A test with real processes that passes at the second try: one line with its first error; a limit for all."""
    returned, said = ran(tmp_path, most, integration=SHAKY)
    lines = [line for line in said.splitlines() if line.startswith("steady only at the second try: ")]
    assert (status, 2) == (returned, len(lines)), said
    assert lines[0].endswith("test_integration.py::test_shaky[0]: RuntimeError: too late")
    assert (most < 2) == ("2 tests needed a second try, at most 1 may" in said)


def test_a_fault_fails_twice_and_a_pure_test_has_one_try(tmp_path: Path) -> None:
    """What fails at both tries has failed; a test without real processes is tried once."""
    returned, said = ran(tmp_path, 9, unit=SHAKY, contract=BROKEN)
    assert (1, True) == (returned, "3 failed, 1 rerun" in said), said
    assert "steady only" not in said
