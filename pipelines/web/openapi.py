"""The description of the API (OpenAPI 3.1): that of FastAPI, with our errors and the role of each route."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from pipelines.usecases.tokens import Role
from pipelines.web.identity import Allowed
from pipelines.web.problems import PROBLEM_JSON, ProblemDocument

__all__ = ["ROLE", "Place", "description_of", "places_of"]

TEMPLATE = "#/components/schemas/{model}"
ROLE = "x-esync-role"  #: of an operation: the least role that it needs

#: Two enums have the same name here. A generated client takes the last part, or the title, as the name of a class.
_NAMES = {
    "Role-Input": "CallerRole",
    "pipelines__usecases__tokens__Role": "CallerRole",
    "tasks__cluster__Role": "NodeRole",
}


class Place(NamedTuple):
    """Where a route is, and the least role that it needs; None for one that is open to all."""

    method: str
    path: str
    role: Role | None


def places_of(app: FastAPI) -> Iterator[Place]:
    """All routes of an application, with their methods."""
    for route in iter_route_contexts(app.routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        roles = sorted(_roles(dependant), key=list(Role).index) if dependant else []
        for method in sorted(route.methods or ()):
            yield Place(method, route.path or "", roles[-1] if roles else None)


def _roles(dependant: Dependant) -> Iterator[Role]:
    if isinstance(dependant.call, Allowed):
        yield dependant.call.role
    for inner in dependant.dependencies:
        yield from _roles(inner)


def description_of(app: FastAPI) -> dict[str, Any]:
    """The document of an application's API."""
    ours = [route for route in iter_route_contexts(app.routes) if (route.path or "").startswith("/api/")]
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, description=_TEXT, routes=ours)
    schemas = made["components"]["schemas"]
    problem = ProblemDocument.model_json_schema(ref_template=TEMPLATE, mode="serialization")
    schemas |= problem.pop("$defs", {}) | {"ProblemDocument": problem}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    roles = {(place.path, place.method.lower()): place.role for place in places_of(app)}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            operation[ROLE] = roles[path, method]
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _PROBLEM
    return _named(made)


def _named(made: dict[str, Any]) -> dict[str, Any]:
    """The document with one name for each enum: neither two names for one, nor one title for two."""
    text = json.dumps(made)
    for ours, name in _NAMES.items():
        text = text.replace(f'"{TEMPLATE.format(model=ours)}"', f'"{TEMPLATE.format(model=name)}"')
    named: dict[str, Any] = json.loads(text)
    schemas = named["components"]["schemas"]
    for ours, name in _NAMES.items():
        schemas[name] = schemas.pop(ours) | {"title": name}
    return named


_PROBLEM = {
    "description": "Refused, or failed: the same words as the command line's.",
    "content": {PROBLEM_JSON: {"schema": {"$ref": TEMPLATE.format(model="ProblemDocument")}}},
}
_TEXT = (
    "Everything needs a token (`Authorization: Bearer ...`; `esync token create` makes one). The least role of an "
    f"operation is `{ROLE}`; each role includes those before it: {', '.join(Role)}. Docs: docs/api.md."
)
