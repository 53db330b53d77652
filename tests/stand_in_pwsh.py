"""A program named `pwsh` that stands in for a real PowerShell: it runs the script as Python."""

import sys
from pathlib import Path

__all__ = ["stand_in_pwsh"]

_PROGRAM = """#!{python}
import base64, sys
assert sys.argv[1:-1] == ["-NoProfile", "-NonInteractive", "-EncodedCommand"], sys.argv
exec(base64.b64decode(sys.argv[-1]).decode("utf-16-le"))
"""


def stand_in_pwsh(folder: Path) -> Path:
    """Writes it there; returns the folder, which belongs on PATH."""
    program = folder / "pwsh"
    program.write_text(_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return folder
