"""A fresh virtual environment with one package and what it requires, made of what is installed here."""

import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["fresh_environment"]


def fresh_environment(folder: Path, package: str) -> Path:
    """Makes the environment that `pip install PACKAGE` would make.

    Args:
        folder: where; empty.
        package: a requirement such as `celery[redis]`.

    Returns:
        Its Python.

    Raises:
        PackageNotFoundError: the package, or one that it requires, is not installed here.
    """
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name, installed in _required(package).items():
        files = installed.files
        assert files, f"{name} does not say which files it has"
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link = packages / top
            if not link.exists():  # namespace packages share a folder
                link.symlink_to(Path(str(installed.locate_file(top))))
    return folder / "bin" / "python"


def _required(package: str) -> dict[str, Distribution]:
    """The package and everything that it requires, directly or not, by name."""
    found: dict[str, Distribution] = {}
    waiting, seen = [Requirement(package)], set()
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        installed = found[one.name] = distribution(one.name)
        extras = ["", *one.extras]
        needs = map(Requirement, installed.requires or ())
        waiting += [need for need in needs if _applies(need, extras)]
    return found


def _applies(need: Requirement, extras: list[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
