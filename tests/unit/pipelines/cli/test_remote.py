"""Commands against a server: what is refused before anything is sent."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.cli.verbs import ONLY_HERE, REMOTE, VERBS
from workers.settings import load_settings


def said(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit status and the error text of a command."""
    load_settings.cache_clear()
    status = run(list(arguments))
    return status, capfd.readouterr().err


def test_a_verb_works_against_a_server_or_is_refused_or_needs_no_store() -> None:
    """A verb that asked a broker here would show another run store than the server's."""
    without_store = {"init", "export", "trust", "check", "propagate", "certs", "lab", "demo"}
    whole = {verb for verb in ONLY_HERE if " " not in verb}
    assert VERBS.keys() == REMOTE.keys() | whole | without_store
    assert {"certs export", "certs renew"} == ONLY_HERE.keys() - whole


@pytest.mark.parametrize("verb", sorted(ONLY_HERE))
def test_what_needs_the_store_itself_is_refused(
    verb: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and what to do instead."""
    monkeypatch.setenv("ESYNC_SERVER", "https://esync.example.net")
    status, text = said(capfd, *verb.split(), "x")
    assert 1 == status
    assert f"esync {verb} does not work against a server, and ESYNC_SERVER is set: {ONLY_HERE[verb]}" in text
    assert f"log on where the broker is, unset ESYNC_SERVER there, then run esync {verb}" in text


def test_a_server_without_a_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The message names both variables."""
    monkeypatch.setenv("ESYNC_SERVER", "https://esync.example.net")
    status, text = said(capfd, "runs")
    assert (1, True) == (status, "set ESYNC_TOKEN, or ESYNC_TOKEN_FILE" in text)


def test_a_token_is_not_sent_unencrypted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor shown, if its file is something else."""
    (tmp_path / "token").write_text("esync-planted-token\n")
    monkeypatch.setenv("ESYNC_SERVER", "http://esync.example.net:8470")
    monkeypatch.setenv("ESYNC_TOKEN_FILE", str(tmp_path / "token"))
    status, text = said(capfd, "runs")
    assert (1, True) == (status, "is not https" in text)
    assert "planted" not in text


@pytest.mark.parametrize(
    "server", ["esync.example.net", "https://ann:secret@esync.example.net", "ftp://x", " ", "http://x?a"]
)
def test_a_wrong_address_is_refused(
    server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the verb begins; a password in it is not repeated."""
    monkeypatch.setenv("ESYNC_SERVER", server)
    assert (1, True) == ((told := said(capfd, "runs"))[0], "ESYNC_SERVER" in told[1])
    assert "secret" not in told[1]


@pytest.mark.parametrize("file", ["files/shop.yaml", "shop.yaml", "./shop", ""])
@pytest.mark.parametrize("verb", [["verify"], ["plan"], ["rollout", "-y"], ["attest"]])
def test_a_file_of_this_machine_is_no_cluster_of_the_server(
    verb: list[str], file: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent; the message says which name is meant."""
    monkeypatch.setenv("ESYNC_SERVER", "https://esync.example.net")
    monkeypatch.setenv("ESYNC_TOKEN", "x")
    status, text = said(capfd, *verb, file)
    assert (1, True) == (status, f"{file!r} is not the name of a cluster file of the server" in text)
    assert "without folder and suffix, such as shop;" in text


def test_a_server_that_does_not_answer_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After the time in which it may be restarted; here that time is over at once."""
    monkeypatch.setattr("pipelines.web.client.FIRST", 0.0)
    monkeypatch.setenv("ESYNC_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("ESYNC_TOKEN", "x")
    status, text = said(capfd, "runs")
    assert (1, True) == (status, "the server at http://127.0.0.1:1 does not answer: " in text)
    assert "refused" in text


@pytest.mark.parametrize("token", ["t\u00f6ken", "a b", "a\nb: c"])
def test_what_is_no_token_is_not_sent(
    token: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor repeated; blanks around it do not count."""
    monkeypatch.setattr("pipelines.web.client.FIRST", 0.0)
    monkeypatch.setenv("ESYNC_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("ESYNC_TOKEN", f"{token} ")
    status, text = said(capfd, "runs")
    assert (1, True) == (status, "the token has characters that no token has; nothing was sent" in text)
    assert token not in text
    monkeypatch.setenv("ESYNC_TOKEN", " x\n")
    assert "does not answer" in said(capfd, "runs")[1]


def test_authorities_that_cannot_be_read_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the variable that names them."""
    for name, value in {"SERVER": "https://127.0.0.1:1", "TOKEN": "x"}.items():
        monkeypatch.setenv(f"ESYNC_{name}", value)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    status, text = said(capfd, "runs")
    assert (1, True) == (status, "the file of SSL_CERT_FILE cannot be used: No such file" in text)
    assert "none.pem" in text


class Page(BaseHTTPRequestHandler):
    """Answers as something else than esync does: the logon page of a proxy, or JSON of another program."""

    def do_GET(self) -> None:
        """With what the path asks for."""
        kind, body = {"/page": ("text/html", b"<h1>Log on</h1>"), "/json": ("application/json", b'{"ok": [1]}')}[
            self.path[:5]
        ]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - a name of the library

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize("answers", ["page", "json"])
def test_a_server_of_something_else_is_reported(
    answers: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever it is asked: with its address, and what to check."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("ESYNC_SERVER", f"http://127.0.0.1:{other.server_port}/{answers}")
        monkeypatch.setenv("ESYNC_TOKEN", "x")
        for verb in (["runs"], ["status", "r"], ["doctor", "shop"], ["explain", "S1"], ["attest", "shop"]):
            assert (1, True) == ((told := said(capfd, *verb))[0], "is not that of an esync server" in told[1]), told
        other.shutdown()
        thread.join()
