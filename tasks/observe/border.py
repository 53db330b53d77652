"""The border to what a node replies: it is understood and cleaned here, before it becomes a fact."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from tasks.ektron.facts.values import Fact
from workers.errors import AgentFailed
from workers.texts import cleaned_all, long_texts

__all__ = ["cleaned_facts", "understood"]

F = TypeVar("F", bound=Fact)


@contextmanager
def understood(node: str) -> Iterator[None]:
    """The one border to what a node replies: a number in place of a text, a time that is none, anything at all.

    Raises:
        AgentFailed: the reply cannot be understood.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise AgentFailed(
            f"{node}: what the agent replied cannot be understood ({type(error).__name__})",
            remedy="find out what answers at this address; esync talks only to the agent that it starts itself",
        ) from None


def cleaned_facts(facts: F) -> F:
    """The facts without any character that must not be shown, from whatever file on the node it came.

    The result is what the store will return: a value that cannot be stored is found here.

    Raises:
        ValueError: a value cannot be stored.
    """
    text = facts.model_dump_json()
    if long_texts(text) != 0:
        text = json.dumps(cleaned_all(facts.model_dump(mode="json")), allow_nan=False)
    return type(facts).model_validate_json(text)
