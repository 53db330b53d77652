"""Versions as the product and its manuals write them: builds in configuration files, editions in a cluster file.

The vendor writes one release in several ways: 8.02 is 8.0.2, 8.61 is 8.6.1, 9.10 is 9.1 (ektron-facts 10).
"""

import re
from collections.abc import Iterable

__all__ = ["dotted", "installed_version", "is_older", "most_exact", "release_of", "spelled"]

_DOTTED = re.compile(r"(?<![\d.])\d{1,9}(?:\.\d{1,9})+")
_RELEASE = re.compile(r"\s*[vV]?(\d)\.(\d)\d?(?!\d)")
_BUILD = re.compile(r"\d{1,9}(?:\.\d{1,9}){2,}")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_LONGEST = 500  #: characters of a text that are looked at


def installed_version(text: str | None) -> tuple[int, ...] | None:
    """The build in a version text, or None: the dotted number with the most parts, the first of them.

    `8.0.1.087SP1.03` is 8.0.1.87; `9.1 (9.1.0.184) SP1 (.1) CU 4 (.304)`, the form of `installedversion`, is 9.1.0.184
    (ektron-facts 1.3, 10).
    """
    found = _DOTTED.findall((text or "")[:_LONGEST])
    longest = max(found, key=lambda number: number.count("."), default="")
    return tuple(int(part) for part in longest.split(".")) if longest else None


def most_exact(texts: Iterable[str | None], least: int = 0) -> tuple[int, ...] | None:
    """The build with the most parts among texts, the first of them; one whose major number is below `least` is none."""
    builds = [build for text in texts if (build := installed_version(text)) and build[0] >= least]
    return max(builds, key=len, default=None)


def spelled(text: str) -> str:
    """A version text in one spelling: builds without leading zeros, single blanks, capital letters.

    The product writes 8.0.1.087 as well as 8.0.1.87, and people edit these values (ektron-facts 1.3). In a short number
    a zero counts: 8.05 is another release than 8.5.
    """
    return " ".join(_BUILD.sub(lambda build: _LEADING_ZEROS.sub("", build[0]), text).split()).upper()


def is_older(build: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a build is older than another, in the parts that both have: 9.1 is not older than 9.1.0.184."""
    shared = min(len(build), len(other))
    return build[:shared] < other[:shared]


def dotted(build: tuple[int, ...]) -> str:
    """A build as text: `9.1.0.184`."""
    return ".".join(map(str, build))


def release_of(text: str | None) -> str:
    """`major.minor` of a version: of `8.02`, `8.50`, `8.6.1`, `9.1.0.184`; empty when the text is no version.

    The product has no minor number above 9, so the second digit behind the dot is the third part (ektron-facts 10).
    """
    match = _RELEASE.match((text or "")[:_LONGEST])
    return f"{match[1]}.{match[2]}" if match else ""
