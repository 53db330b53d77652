"""Everything the environment decides: `ESYNC_*` variables, read once, frozen."""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, PlainSerializer, ValidationError
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers.errors import InputRefused

__all__ = ["Secret", "Settings", "load_settings"]


class Secret:
    """A value that shows itself only when asked by name: not in `repr`, `str`, JSON or a format string."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Every call of this is a place to look at."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret does not travel")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic takes text or a Secret and gives it out masked."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Secret) else cls(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "***"),
        )


def _state_folder(value: object) -> object:
    return Path(str(value)).expanduser().resolve()


Folder = Annotated[Path, BeforeValidator(_state_folder), PlainSerializer(str)]


def _default_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base, "esync").expanduser()


class Settings(BaseSettings):
    """The environment's decisions. Times are seconds.

    Attributes:
        broker_url: Redis or Valkey for messages and, unless `store_url` says otherwise, for the run store.
        seal_key: Fernet key that certificate material is sealed with in the store.
        state: folder of this machine's own things: embedded broker, its password, reports.
        clusters: folder of cluster files that other programs may start runs of, by name.
        concurrency: nodes one worker process works on at a time.
        lease: how long a node stays claimed by a worker that has gone silent.
        max_active: runs that may be going on at a time; one more is refused.
        stall_after: how long a run may show no progress before the reconciler pushes it on.
    """

    model_config = SettingsConfigDict(env_prefix="ESYNC_", frozen=True, extra="ignore")

    broker_url: Secret | None = None
    store_url: Secret | None = None
    seal_key: Secret | None = None
    state: Folder = _default_state()
    clusters: Folder | None = None
    concurrency: int = 32
    max_active: int = 200
    lease: float = 20.0
    stall_after: float = 15.0
    reconcile_every: float = 5.0
    visibility_timeout: int = 900
    log_level: str = "INFO"

    def broker(self) -> Secret:
        """Where messages go."""
        if self.broker_url is None:
            raise InputRefused(
                "no broker is configured", remedy="set ESYNC_BROKER_URL, or use `esync up` on one machine"
            )
        return self.broker_url

    def store(self) -> Secret:
        """Where the run store lives."""
        url = self.store_url or self.broker_url
        if url is None:
            raise InputRefused("no run store is configured", remedy="set ESYNC_BROKER_URL")
        return url


@cache
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        InputRefused: a variable holds something that cannot be used; the variable is named, its value is not.
    """
    try:
        return Settings()
    except ValidationError as error:
        names = ", ".join("ESYNC_" + str(e["loc"][0]).upper() for e in error.errors())
        raise InputRefused(f"environment variable {names} cannot be used", remedy="correct or unset it") from None
