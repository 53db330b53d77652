"""The loggers of all modules. What writes their lines is loaded with the first line: most commands never write one."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

__all__ = ["logger"]


class _Later:
    """A logger that is made when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _made(self) -> Any:  # noqa: ANN401 - as the library has it
        from workers.logs import writer  # noqa: PLC0415 - see above

        return writer(self._name)

    def __getattr__(self, level: str) -> Any:  # noqa: ANN401 - as the library has it
        return getattr(self._made, level)


def logger(name: str) -> "BoundLogger":
    """A logger for one module: an event as text, and its data as keywords."""
    return cast("BoundLogger", _Later(name))
