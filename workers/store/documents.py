"""Documents of runs as values. If another version of esync wrote one, with other fields, that is said of its run."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from workers.errors import RecordRefused

__all__ = ["document_as", "place_in"]

M = TypeVar("M", bound=BaseModel)


def document_as(kind: type[M], text: str, run_id: str) -> M:
    """A document of a run.

    Raises:
        RecordRefused: it has not the fields of this version.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        why = f"a document of run {run_id} cannot be read ({place_in(error)}): another version of esync wrote it"
        raise RecordRefused(run_id, why) from None


def place_in(error: ValidationError) -> str:
    """The first field that is wrong, without its value."""
    return ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"]) or "its form"
