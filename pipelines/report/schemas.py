"""The JSON schemas of what the command prints; `python -m pipelines.report.schemas docs` writes docs/*-schema.json."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from pipelines.report.rows import Report
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunRow, RunStatus

__all__ = ["SCHEMAS", "schema"]

_Adapter: TypeAlias = TypeAdapter[Report] | TypeAdapter[SavedPlan] | TypeAdapter[RunStatus] | TypeAdapter[list[RunRow]]

#: name of the file -> what it describes
SCHEMAS: Mapping[str, _Adapter] = {
    "report": TypeAdapter(Report),
    "plan": TypeAdapter(SavedPlan),
    "status": TypeAdapter(RunStatus),
    "runs": TypeAdapter(list[RunRow]),
}


class _AsWritten(GenerateJsonSchema):
    """Written documents always have all fields, also those that are optional when reading."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: FBT001 - the signature of pydantic
    ) -> bool:
        del field, total
        return True

    def field_title_should_be_set(self, schema: object) -> bool:
        """A title that repeats the name of the field has no information."""
        del schema
        return False


def schema(name: str) -> dict[str, object]:
    """The schema of that name, in draft 2020-12."""
    made = SCHEMAS[name].json_schema(mode="serialization", schema_generator=_AsWritten)
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}


def _write(folder: Path) -> None:
    for name in SCHEMAS:
        (folder / f"{name}-schema.json").write_text(json.dumps(schema(name), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
