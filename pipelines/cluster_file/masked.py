"""A cluster file for those who may look at it: a secret that stands where only a reference to one may stand is masked.

A file with mistakes may have a password in it. It need not be YAML, so this works on its lines.
"""

import re

from workers.masks import MASK, scrubbed

__all__ = ["masked"]

_SECRET = re.compile(
    r"""(?:^[\s#-]*|[{,]\s*)["']?[\w-]*(?:secret|passw|pwd|token|credential)[\w-]*["']?\s*:(?P<value>.*)""",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"""\s*["']?(?:env|file|keytab|tickets):""")
_KEY = re.compile(r"""\s*(?:-\s+)?["']?[\w-]+["']?\s*:(?:\s|$)""")


def masked(text: str) -> str:
    """The text, with a mask in place of each value that may be a secret, and of each password in a URL."""
    lines: list[str] = []
    below: int | None = None  #: the indentation of a key whose value may go on below it
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        if below is not None and (not line.strip() or (indent > below and not _KEY.match(line))):
            lines.append(" " * indent + MASK if line.strip() else line)
            continue
        shown, below = _without_secret(line)
        lines.append(scrubbed(shown))
    return "\n".join(lines)


def _without_secret(line: str) -> tuple[str, int | None]:
    """A line, and the indentation of its key if the value of that is, or begins, a secret."""
    place = 0
    while found := _SECRET.search(line, place):
        if not _REFERENCE.match(found["value"]):
            shown = f"{line[: found.start('value')]} {MASK}" if found["value"].strip() else line
            return shown, len(line) - len(line.lstrip(" #-"))
        place = found.start("value")
    return line, None
