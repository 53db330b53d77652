"""Messages of WS-Management, read and written without a server."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from lab.winrm.wsman import Action, Chunk, Fault, Malformed, Message, fault_response, read, receive_response

NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
}


def message(body: str = "", *, header: str = "", action: str = Action.COMMAND, doctype: str = "") -> bytes:
    """A request with a body."""
    return f"""<?xml version="1.0" encoding="utf-8"?>{doctype}
<env:Envelope xmlns:env="{NS["s"]}" xmlns:a="{NS["a"]}" xmlns:rsp="{NS["rsp"]}"
  xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><env:Header>
  <a:Action>{action}</a:Action><a:MessageID>uuid:1</a:MessageID>{header}</env:Header>
  <env:Body>{body}</env:Body></env:Envelope>""".encode()


def read_back(data: bytes) -> etree._Element:
    """A parsed answer."""
    return etree.fromstring(data)


def test_a_command_has_its_options() -> None:
    """Command, arguments, options, selector, timeout and envelope size."""
    header = """<w:OperationTimeout>PT1M2.5S</w:OperationTimeout><w:MaxEnvelopeSize>1000</w:MaxEnvelopeSize>
    <w:OptionSet><w:Option Name="WINRS_SKIP_CMD_SHELL">TRUE</w:Option>
    <w:Option Name="WINRS_CONSOLEMODE_STDIN">FALSE</w:Option></w:OptionSet>
    <w:SelectorSet><w:Selector Name="ShellId">ab-c</w:Selector></w:SelectorSet>"""
    body = """<rsp:CommandLine><rsp:Command>x</rsp:Command>
    <rsp:Arguments>1</rsp:Arguments><rsp:Arguments>2</rsp:Arguments></rsp:CommandLine>"""
    found = read(message(body, header=header))
    assert ("x", ("1", "2")) == found.command_line()
    assert (True, False) == (found.flag("WINRS_SKIP_CMD_SHELL"), found.flag("WINRS_CONSOLEMODE_STDIN"))
    assert ("AB-C", 62.5, 1000, "uuid:1") == (found.shell, found.timeout, found.envelope, found.id)


def test_input_is_read_with_its_end() -> None:
    """Chunks in order, the last one with the end."""
    body = """<rsp:Send><rsp:Stream Name="stdin" CommandId="C" End="false">YWI=</rsp:Stream>
    <rsp:Stream Name="stdin" CommandId="C" End="true"/></rsp:Send>"""
    assert [Chunk("C", "stdin", b"ab"), Chunk("C", "stdin", b"", end=True)] == read(message(body)).inputs()


@given(st.binary(max_size=200))
def test_invalid_bytes_are_malformed(data: bytes) -> None:
    """There is no other exception."""
    with pytest.raises(Malformed):
        read(data)


@given(st.text(max_size=50))
def test_any_timeout_results_in_seconds(text: str) -> None:
    """An invalid duration results in the default."""
    clean = "".join(c for c in text if c.isalnum() or c in ". ")
    with contextlib.suppress(Malformed):
        assert read(message(header=f"<w:OperationTimeout>{clean}</w:OperationTimeout>")).timeout >= 0


def test_entities_and_document_types_are_rejected() -> None:
    """No message needs them."""
    doctype = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    with pytest.raises(Malformed):
        read(message("<rsp:CommandLine><rsp:Command>&e;</rsp:Command></rsp:CommandLine>", doctype=doctype))


@pytest.mark.parametrize(
    "body", ["", "<rsp:CommandLine/>", "<rsp:CommandLine><rsp:Command> </rsp:Command></rsp:CommandLine>"]
)
def test_an_empty_command_is_a_fault(body: str) -> None:
    """The parameter is incorrect."""
    with pytest.raises(Fault) as caught:
        read(message(body)).command_line()
    assert 87 == caught.value.code


def test_input_that_is_not_base64_is_a_fault() -> None:
    """The parameter is incorrect."""
    with pytest.raises(Fault):
        read(message('<rsp:Send><rsp:Stream Name="stdin" CommandId="C">?</rsp:Stream></rsp:Send>')).inputs()


def test_a_fault_has_its_code_where_clients_read_it() -> None:
    """Code, sub-code, reason, machine and message id, escaped."""
    root = read_back(fault_response("uuid:<1>", Fault.unknown_shell("<x>"), "N1"))
    fault = root.find("s:Body/s:Fault/s:Detail/f:WSManFault", NS)
    assert fault is not None
    assert ("2150858843", "N1") == (fault.get("Code"), fault.get("Machine"))
    assert "uuid:<1>" == root.findtext("s:Header/a:RelatesTo", namespaces=NS)
    assert "<x>" in (root.findtext("s:Body/s:Fault/s:Reason/s:Text", namespaces=NS) or "")


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=50)), max_size=5),
    st.none() | st.integers(0, 2**32 - 1),
)
def test_output_is_unchanged_in_the_answer(pieces: list[tuple[str, bytes]], status: int | None) -> None:
    """Streams in order, and the exit status only at the end."""
    request = Message(Action.RECEIVE, "uuid:1", "S", 1, 1000, etree.Element("x"))
    chunks = [Chunk("", stream, data) for stream, data in pieces]
    root = read_back(receive_response(request, "C", chunks, status))
    streams = [item for item in root.iterfind(".//rsp:Stream", NS) if item.get("End") is None]
    assert pieces == [(item.get("Name"), base64.b64decode(item.text or "")) for item in streams]
    assert root.findtext(".//rsp:ExitCode", namespaces=NS) == (None if status is None else str(status))
