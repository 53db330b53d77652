"""Where the tests find the repository, its documents and the case folders."""

from pathlib import Path

__all__ = ["CASE_FOLDERS", "DOCS", "ROOT"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CASE_FOLDERS = ROOT / "tests" / "cases"
