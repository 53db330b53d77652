"""Masks secrets in lines that are about to be shown or logged: passwords in URLs, and the values given to `hide`."""

import json
import re

from workers.settings import Secret

__all__ = ["MASK", "hide", "scrubbed"]

MASK = "***"
SHORTEST = 4  #: characters; masking shorter values would make the log unreadable
_URL_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{0,20}://[^\s/:@\"']*:)[^\s/@\"']+(?=@)", re.IGNORECASE)
_hidden: set[str] = set()


def hide(secret: Secret) -> None:
    """Masks this value in all later lines of this process, also as JSON or repr write it."""
    value = secret.reveal()
    if len(value) >= SHORTEST:
        for form in (value, repr(value)[1:-1]):
            _hidden.update({form, json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1]})


def scrubbed(line: str) -> str:
    """The line without passwords in URLs and without hidden values."""
    for value in sorted(_hidden, key=len, reverse=True):
        line = line.replace(value, MASK)
    return _URL_PASSWORD.sub(rf"\g<before>{MASK}", line)
