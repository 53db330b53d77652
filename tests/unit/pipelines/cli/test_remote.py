"""Commands against a server: what is refused before anything is sent."""

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


@pytest.mark.parametrize("server", ["esync.example.net", "https://ann:secret@esync.example.net", "ftp://x", " "])
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
    monkeypatch.setattr("pipelines.web.client.PATIENCE", 0.0)
    monkeypatch.setenv("ESYNC_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("ESYNC_TOKEN", "x")
    assert (1, True) == ((told := said(capfd, "runs"))[0], "the server does not answer" in told[1])
