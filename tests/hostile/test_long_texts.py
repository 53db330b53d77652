"""Long texts of one kind from nodes and files: each is read in linear time, and holds up no other node."""

import time
from collections.abc import Callable

import pytest

from pipelines.cluster_file.positions import _UNUSUAL
from tasks.ektron.config.redacted import _innocent
from tasks.syncing.pages import shown
from tests.unit.workers.winrm.test_faults import translated
from workers.winrm.answers import Answer, Unusable
from workers.winrm.faults import Phase
from workers.winrm.messages import Answering
from workers.winrm.wire import readable

SIZE = 1_000_000  #: characters
MOST = 5.0  #: seconds of CPU time; the slowest takes one, in quadratic time it would take minutes


class Node:
    """A node with one answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def send_message(self, message: str) -> bytes:
        """The answer to any message."""
        del message
        return self.answer


def answered(piece: str) -> None:
    """As the answer to a message of WS-Management."""
    message = "<a:MessageID>uuid:1</a:MessageID>"
    Answering(Node(b"<s:Envelope>" + many(piece).encode())).send_message(message)


def page(piece: str) -> None:
    """As a page in place of such an answer."""
    translated(Unusable("x", Answer(200, b"<html>" + many(piece).encode())), Phase.OPENING)


def many(piece: str) -> str:
    """A long text of such pieces."""
    return piece * (SIZE // len(piece))


@pytest.mark.parametrize(
    ("read", "piece"),
    [
        (answered, "RelatesTo"),
        (answered, "<s:RelatesTo "),
        (answered, "<s:"),
        (page, "<title"),
        (page, "<title "),
        (lambda piece: readable(many(piece).encode()), "<"),
        (lambda piece: readable(many(piece).encode()), "_x0"),
        (lambda piece: shown(many(piece).encode()), "<title"),
        (lambda piece: shown(many(piece).encode()), "<title>x</titl"),
        (lambda piece: _innocent(many(piece)), "="),
        (lambda piece: _innocent(many(piece)), "uid "),
        (lambda piece: _innocent(many(piece)), "://"),
        (lambda piece: _UNUSUAL.search(many(piece)), "\n"),
        (lambda piece: _UNUSUAL.search(many(piece)), " \n"),
    ],
)
def test_it_takes_linear_time(read: Callable[[str], object], piece: str) -> None:
    """Whatever is repeated in it."""
    begun = time.process_time()
    read(piece)
    assert time.process_time() - begun < MOST
