"""The messages that are built once: they are those of pywinrm."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from winrm.protocol import Protocol

from workers.winrm.messages import Messages

SHELL, COMMAND = "A1-B2", 'C3&<"D4'


class Recorder:
    """A transport that keeps what is sent and answers with one output."""

    def __init__(self, answer: bytes = b"<a/>") -> None:
        self.sent: list[str] = []
        self.answer = answer

    def send_message(self, message: str) -> bytes:
        """One answer."""
        self.sent.append(message)
        return self.answer


def _both(answer: bytes = b"<a/>") -> tuple[Messages, Protocol, Recorder, Recorder]:
    ours, theirs = Recorder(answer), Recorder(answer)
    other = Protocol("https://node/wsman", transport="certificate", cert_pem=__file__, cert_key_pem=__file__)
    other.transport = theirs  # type: ignore[assignment]  # the part of it that is used
    mine = Messages(ours)
    mine.operation_timeout_sec = other.operation_timeout_sec = 7
    return mine, other, ours, theirs


def _plain(message: str) -> str:
    return ET.canonicalize(re.sub(r"uuid:[0-9a-f-]{36}", "uuid:X", message))


@pytest.mark.parametrize("end", [False, True])
def test_a_send_is_that_of_pywinrm(end: bool) -> None:  # noqa: FBT001 - a parameter
    """The same elements, attributes and data; names are escaped."""
    mine, other, ours, theirs = _both()
    for data in (b"", b"x\x00\xff" * 1000):
        mine.send_command_input(SHELL, COMMAND, data, end=end)
        other.send_command_input(SHELL, COMMAND, data, end=end)
    assert list(map(_plain, theirs.sent)) == list(map(_plain, ours.sent))
    assert 2 == len({re.findall("uuid:[^<]*", message)[0] for message in ours.sent})


@pytest.mark.parametrize("state", ["Running", "Done"])
def test_a_receive_and_its_answer_are_those_of_pywinrm(state: str) -> None:
    """Also with several pieces of two streams, and the exit status."""
    status = "<ExitCode>3</ExitCode>" if state == "Done" else ""
    answer = (
        '<r><Stream Name="stdout">YQ==</Stream><Stream Name="stderr">Yg==</Stream><Stream Name="stdout"/>'
        f'<Stream Name="stdout">Yw==</Stream><CommandState State="x/CommandState/{state}">{status}</CommandState></r>'
    ).encode()
    mine, other, ours, theirs = _both(answer)
    assert other.get_command_output_raw(SHELL, COMMAND) == mine.get_command_output_raw(SHELL, COMMAND)
    assert _plain(theirs.sent[0]) == _plain(ours.sent[0])


def test_a_shell_and_a_command_are_those_of_pywinrm() -> None:
    """And so are the names that are read in the answers, wherever they are."""
    answer = b'<e><b><Selector Name="ShellId">A1</Selector><CommandId>C3</CommandId></b></e>'
    mine, other, ours, theirs = _both(answer)
    shell: dict[str, Any] = {"codepage": 65001, "noprofile": False, "idle_timeout": "PT900S"}
    command: dict[str, Any] = {"console_mode_stdin": False, "skip_cmd_shell": False}
    assert other.open_shell(**shell) == mine.open_shell(**shell) == "A1"
    assert other.run_command(SHELL, 'a & "b" <c>', **command) == mine.run_command(SHELL, 'a & "b" <c>', **command)
    assert list(map(_plain, theirs.sent)) == list(map(_plain, ours.sent))


def test_a_delete_is_that_of_pywinrm() -> None:
    """Only the answer is not compared: a shell that was not deleted ends by itself."""
    mine, other, ours, theirs = _both()
    mine.close_shell(SHELL, close_session=False)
    with pytest.raises(StopIteration):
        other.close_shell(SHELL, close_session=False)
    assert list(map(_plain, theirs.sent)) == list(map(_plain, ours.sent))


@pytest.mark.parametrize("answer", [b"<a/>", b'<a><b Name="Other">x</b></a>'])
def test_an_answer_without_the_name_is_refused_as_by_pywinrm(answer: bytes) -> None:
    """The caller maps the error."""
    mine, other, *_ = _both(answer)
    for one in (mine, other):
        with pytest.raises(StopIteration):
            one.open_shell(idle_timeout="PT1S")
        with pytest.raises(StopIteration):
            one.run_command(SHELL, "x")
