"""The questions about a cluster that no program can answer, as pages show them."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pipelines.engine import Engine
from pipelines.usecases import attest
from pipelines.usecases.tokens import Role
from pipelines.web.identity import Caller
from pipelines.web.pages.overview import Overview
from workers.errors import EsyncError
from workers.records import now

__all__ = ["question_values"]

_USUAL = timedelta(days=365)  #: the end that the form proposes


def question_values(engine: Engine, overview: Overview, asking: Caller, name: str) -> Mapping[str, Any]:
    """What the list of questions shows; no questions for a cluster that has no usable file here."""
    known, today = None, now().date()
    with suppress(EsyncError):
        cluster, file = overview.cluster(name)
        known = attest.questions(engine, cluster) if file else None
    questions = known.questions if known else ()
    return {
        "has_file": known is not None,
        "questions": questions,
        "others": known.others if known else (),
        "unanswered": sum(not one.answered for one in questions),
        "can_answer": asking.may(Role.APPROVER, name),
        "first": today,
        "usual": today + _USUAL,
        "last": today + attest.LONGEST,
    }
