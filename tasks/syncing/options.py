"""What a run of a sync was asked for, as options of its record: `from=S1`, `profile=Nightly`, `start=http`."""

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.sync_settings import SyncStart

__all__ = ["SyncOptions"]

_STARTS: dict[str, SyncStart] = {"http": "http", "gate": "gate"}


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What was asked for.

    Attributes:
        node: on which the sync, or the refresh, is started.
        profile: its name; empty where a person chooses it.
        start: `http` or `gate`.
        repair: whether a proof whose first sync has failed waits for a person to repair search, and proves again.
    """

    node: str = ""
    profile: str = ""
    start: SyncStart = "gate"
    repair: bool = False

    @classmethod
    def of(cls, options: Iterable[str]) -> "SyncOptions":
        """From the options of a record; unknown ones are ignored."""
        values = dict(option.partition("=")[::2] for option in options)
        return cls(
            node=values.get("from", ""),
            profile=values.get("profile", ""),
            start=_STARTS.get(values.get("start", ""), "gate"),
            repair=values.get("repair") == "gate",
        )

    @property
    def as_options(self) -> tuple[str, ...]:
        """For the record."""
        values = {
            "from": self.node,
            "profile": self.profile,
            "start": self.start,
            "repair": "gate" if self.repair else "",
        }
        return tuple(f"{name}={value}" for name, value in values.items() if value)
