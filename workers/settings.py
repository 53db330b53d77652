"""Settings from the environment: `ESYNC_*` variables, read once, frozen."""

import difflib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from workers.errors import InputRefused

__all__ = ["EVERY_SITE", "MOST_WORKERS", "SITE", "Secret", "Settings", "load_settings", "misspelt"]

MOST_WORKERS = 64  #: worker processes that one command starts
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SECRET_FIELDS = frozenset(
    {"broker_url", "store_url", "seal_key", "server", "token"}
)  #: settings whose values no message quotes
SITE = r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"  #: the name of a site, as a cluster file has it; empty for none
EVERY_SITE = "*"  #: instead of a name: all workers of this broker work on all nodes
_ALIKE = 0.9  #: how similar a misspelt variable is to the one that was meant
_SHOWN = 60  #: characters of a wrong value that a message quotes


class Secret:
    """A value that only `reveal` returns: it is not in `repr`, `str`, JSON or a format string."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Each call of this needs a review."""
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
        raise TypeError("a Secret cannot be pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic accepts text or a Secret, and writes a mask."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Secret) else cls(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "***"),
        )


def _folder(value: object) -> object:
    try:
        return Path(str(_not_empty(value))).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or an unknown user after `~`
        raise ValueError(str(error)) from None


def _not_empty(value: object) -> object:
    """Refuses an empty variable: `ESYNC_BROKER_URL=$UNSET` must not start an embedded broker."""
    if value is not None and not (value if isinstance(value, Secret) else str(value).strip()):
        raise ValueError("empty")
    return value


def _level(value: str) -> str:
    if value.upper() not in LEVELS:
        raise ValueError("unknown")
    return value.upper()


NotEmpty = BeforeValidator(_not_empty)
Folder = Annotated[Path, BeforeValidator(_folder), PlainSerializer(str)]


def _folders(value: object) -> object:
    listed = value.split(os.pathsep) if isinstance(value, str) else value
    return tuple(_folder(one) for one in listed if str(one).strip()) if isinstance(listed, Iterable) else value


def _texts(folders: tuple[Path, ...]) -> list[str]:
    return [str(folder) for folder in folders]


Folders = Annotated[tuple[Path, ...], BeforeValidator(_folders), PlainSerializer(_texts)]


def _default_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base, "esync").expanduser()


def _seconds(least: float, most: float) -> Any:  # noqa: ANN401 - pydantic's own
    return Field(ge=least, le=most, allow_inf_nan=False, description=f"seconds from {least:g} to {most:g}")


_SERVER = "a URL such as https://esync.example.net, without blanks, user, password and query"


class Settings(BaseModel):
    """The settings of one process: what is not given comes from the environment. Times are seconds.

    Attributes:
        broker_url: Redis or Valkey for messages and, unless `store_url` is set, for the run store.
        seal_key: Fernet key that certificate material is sealed with in the store.
        state: folder for what this machine keeps: embedded broker, its password, reports.
        server: URL of a server that commands ask instead of a broker.
        token: for that server.
        token_file: has the token.
        clusters: folder of the cluster files that other programs may start runs for, by name.
        secrets: folders of secret files, besides that of the cluster file and `clusters`.
        concurrency: nodes that one worker process works on in parallel.
        workers: worker processes of `esync up`; one a core when not set, 64 at most.
        lease: time after which a worker without renewals loses its node.
        site: the site whose nodes this worker works on; empty for nodes without a site, `*` for all nodes.
        max_active: limit of active runs; one more is refused.
        stall_after: time without progress after which the reconciler resumes a run.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    broker_url: Annotated[Secret | None, NotEmpty, Field(description="a URL")] = None
    store_url: Annotated[Secret | None, NotEmpty, Field(description="a URL")] = None
    seal_key: Annotated[Secret | None, NotEmpty, Field(description="a Fernet key, or several")] = None
    state: Folder = Field(default_factory=_default_state, description="a folder")
    server: Annotated[
        str | None, NotEmpty, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$", description=_SERVER)
    ] = None
    token: Annotated[Secret | None, NotEmpty, Field(description="a token")] = None
    token_file: Annotated[Folder | None, Field(description="a file")] = None
    clusters: Annotated[Folder | None, Field(description="a folder")] = None
    secrets: Annotated[Folders, Field(description=f"folders, separated by {os.pathsep}")] = ()
    concurrency: Annotated[int, Field(ge=1, le=512, description="a whole number from 1 to 512")] = 32
    workers: Annotated[
        int | None, Field(ge=1, le=MOST_WORKERS, description=f"a whole number from 1 to {MOST_WORKERS}")
    ] = None
    site: Annotated[str, Field(pattern=SITE, description="a word of letters, digits, '.', '_' or '-', or *")] = ""
    max_active: Annotated[int, Field(ge=1, le=100_000, description="a whole number from 1 to 100000")] = 200
    lease: Annotated[float, _seconds(0.1, 3600)] = 6.0
    stall_after: Annotated[float, _seconds(0.01, 86_400)] = 10.0
    reconcile_every: Annotated[float, _seconds(0.05, 3600)] = 2.0
    visibility_timeout: Annotated[int, Field(ge=1, le=86_400, description="whole seconds from 1 to 86400")] = 900
    log_level: Annotated[str, AfterValidator(_level), Field(description=f"one of {', '.join(LEVELS)}")] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _environment(cls, given: dict[str, object]) -> dict[str, object]:
        variables = {name.upper(): value for name, value in os.environ.items()}
        fields = {_variable(field): field for field in cls.model_fields}
        return {fields[name]: variables[name] for name in fields.keys() & variables.keys()} | given

    def broker(self) -> Secret:
        """The URL of the broker.

        Raises:
            InputRefused: none is configured.
        """
        if self.broker_url is None:
            raise InputRefused(
                "no broker is configured",
                remedy="set ESYNC_BROKER_URL to redis://:PASSWORD@HOST:PORT/DATABASE, or use `esync up` on one machine",
            )
        return self.broker_url

    def store(self) -> Secret:
        """The URL of the run store.

        Raises:
            InputRefused: none is configured.
        """
        url = self.store_url or self.broker_url
        if url is None:
            raise InputRefused("no run store is configured", remedy="set ESYNC_BROKER_URL")
        return url


@cache
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        InputRefused: a variable has an invalid value; the message names it, with its value unless that is secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        fields = {str(problem["loc"][0]): problem["input"] for problem in error.errors()}
        wrong = [f"{_variable(field)}{_quoted(field, value)}" for field, value in fields.items()]
        allowed = [
            f"{_variable(field)} must be {Settings.model_fields[field].description or 'another value'}"
            for field in fields
        ]
        plural = "variables have invalid values" if len(wrong) > 1 else "variable has an invalid value"
        raise InputRefused(
            f"environment {plural}: {', '.join(wrong)}; nothing was started",
            remedy=f"{'; '.join(allowed)}; or unset {'them' if len(wrong) > 1 else 'it'}",
        ) from None


def misspelt() -> dict[str, str]:
    """Variables of the environment that are no setting but look like one, each with the setting that was meant."""
    known = [_variable(field) for field in Settings.model_fields]
    given = [name for name in os.environ if name.startswith("ESYNC_") and name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE) for name in given}
    return {name: found[0] for name, found in near.items() if found}


def _variable(field: str) -> str:
    return f"ESYNC_{field.upper()}"


def _quoted(field: str, value: object) -> str:
    """The value of a variable for a message; nothing of one that may be secret."""
    if field in SECRET_FIELDS:
        return ""
    text = str(value)
    return f"={text if len(text) <= _SHOWN else text[:_SHOWN] + '...'!r}"
