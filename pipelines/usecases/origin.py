"""Who requests something, from where and why: what every way in says about its caller."""

import getpass
from contextlib import suppress
from typing import Annotated, TypedDict

from pydantic import AfterValidator

from workers.texts import cleaned

__all__ = ["KEY", "LONGEST_REASON", "OneLine", "Origin", "user"]

LONGEST_REASON = 500  #: characters, by every way in
KEY = r"[ -~]{0,200}"  #: what a key of a request may be, by every way in

#: Text that a person or a program writes for the record: it is shown to others.
OneLine = Annotated[str, AfterValidator(cleaned)]


class Origin(TypedDict, total=False):
    """Who requests a run, from where and why: fields of `RunRequest` that every way in may set."""

    who: str
    origin_host: str
    reason: str
    key: str


def user() -> str:
    """The user of this process."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
