"""What a command may use while it runs, as values. Apart from what starts it: who only watches a run starts nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.engine import Engine
from workers.settings import Secret

__all__ = ["FlowerAccess", "PageAccess", "Running", "nothing"]


@dataclass(frozen=True, slots=True)
class PageAccess:
    """The address of the page, and the file with a token to log on with."""

    url: str
    token_file: Path


@dataclass(frozen=True, slots=True)
class FlowerAccess:
    """The address of Flower, and its user and password."""

    url: str
    user: str
    password: Secret
    password_file: Path


def nothing() -> None:
    """This command supervises only services that it started; it has nothing to do while they start."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a command may use while it runs.

    Attributes:
        own: the command (`rollout`, `demo`, ...) that the worker ends with; empty when the worker stays.
        broker_file: contains the address of the broker that this command started, with its password.
        check: raises ServiceLost when a service of this command was given up. Call it while waiting.
    """

    engine: Engine
    own: str = ""
    flower: FlowerAccess | None = None
    page: PageAccess | None = None
    logs: Path | None = None
    broker_file: Path | None = None
    check: Callable[[], None] = nothing
