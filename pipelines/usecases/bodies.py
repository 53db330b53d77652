"""What bodies of requests have in common."""

from typing import Annotated

from pydantic import ConfigDict, Field

from pipelines.usecases.origin import LONGEST_REASON, OneLine
from workers.records import Record

__all__ = ["Body", "Reason"]

Reason = Annotated[OneLine, Field(max_length=LONGEST_REASON, description="Why, kept with the run.")]


class Body(Record):
    """The body of a request. Its schema is built at once: FastAPI takes part in that."""

    model_config = ConfigDict(defer_build=False)
