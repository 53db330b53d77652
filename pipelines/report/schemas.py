"""The JSON schemas of what the command prints, and of the cluster file that it reads.

`python -m pipelines.report.schemas docs` writes docs/*-schema.json.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pipelines.report.many import Results
from pipelines.report.rows import Report
from pipelines.report.sync_rows import SyncReport
from pipelines.usecases.listing import RunRow
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunStatus
from tasks.cluster import ClusterFile

__all__ = ["CLUSTER", "SCHEMAS", "schema"]

_Adapter: TypeAlias = (
    TypeAdapter[Report]
    | TypeAdapter[Results]
    | TypeAdapter[SavedPlan]
    | TypeAdapter[RunStatus]
    | TypeAdapter[SyncReport]
    | TypeAdapter[list[RunRow]]
    | TypeAdapter[ClusterFile]
)

CLUSTER = "cluster"  #: the one that is read

#: name of the file -> what it describes
SCHEMAS: Mapping[str, _Adapter] = {
    "report": TypeAdapter(Report),
    "clusters": TypeAdapter(Results),
    "plan": TypeAdapter(SavedPlan),
    "status": TypeAdapter(RunStatus),
    "runs": TypeAdapter(list[RunRow]),
    "sync": TypeAdapter(SyncReport),
    CLUSTER: TypeAdapter(ClusterFile),
}


class _Plain(GenerateJsonSchema):
    """A title that repeats the name of the field has no information."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Never."""
        del schema
        return False


class _AsRead(_Plain):
    """A number is accepted where a text is required: the loader takes it as it is written (`edition: 8.5`)."""

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """A text; the pattern applies to texts only."""
        return {**super().str_schema(schema), "type": ["string", "number"]}


class _AsWritten(_Plain):
    """Written documents always have all fields, also those that are optional when reading."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: FBT001 - the signature of pydantic
    ) -> bool:
        del field, total
        return True


def schema(name: str) -> dict[str, object]:
    """The schema of that name, in draft 2020-12."""
    if name == CLUSTER:
        made = SCHEMAS[name].json_schema(mode="validation", schema_generator=_AsRead)
    else:
        made = SCHEMAS[name].json_schema(mode="serialization", schema_generator=_AsWritten)
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}


def _write(folder: Path) -> None:
    for name in SCHEMAS:
        (folder / f"{name}-schema.json").write_text(json.dumps(schema(name), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
