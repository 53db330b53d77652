"""Writes the description of the API: docs/openapi.json, and the table of routes and roles in docs/api.md.

`python -m tests.openapi_page docs` after a change of the API.
"""

import json
import re
import sys
from pathlib import Path

from fastapi import FastAPI

from pipelines.engine import Engine
from pipelines.web.access import Access
from pipelines.web.app import create_app
from pipelines.web.openapi import ROLE, description_of
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.memory import MemoryStore

__all__ = ["application", "document", "table", "with_table"]

_TABLE = re.compile(r"(?<=<!-- routes -->\n).*?(?=<!-- end of routes -->)", re.DOTALL)


def application() -> FastAPI:
    """The application, over an empty store."""
    store = MemoryStore()
    return create_app(Engine(Settings(), store, Vault(store, None)), Access())


def document() -> str:
    """The OpenAPI document as text."""
    return json.dumps(description_of(application()), indent=1, sort_keys=True) + "\n"


def table() -> str:
    """One line for each route of the API: method, path, least role, what it does."""
    lines = ["| request | least role | what it does |", "|---|---|---|"]
    for path, operations in description_of(application())["paths"].items():
        for method, operation in operations.items():
            short = path.removeprefix("/api/v1")
            words = operation["description"].partition("\n\n")[0].replace("\n", " ")
            lines.append(f"| `{method.upper()} {short}` | {operation[ROLE]} | {words} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """That page with the table of now."""
    return _TABLE.sub(lambda _: table(), page)


def _write(folder: Path) -> None:
    (folder / "openapi.json").write_text(document(), "utf-8")
    page = folder / "api.md"
    page.write_text(with_table(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
