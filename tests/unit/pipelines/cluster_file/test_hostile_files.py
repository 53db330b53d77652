"""Malicious files, wherever a command reads one: an error message within seconds, and bounded memory."""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.audit.check import check_file
from pipelines.cli.entry import run
from pipelines.cluster_file.loader import ClusterRefused, load_cluster, read_cluster
from pipelines.usecases.plan_file import load_plan
from tests.unit.pipelines.cluster_file.test_loader import VALID
from workers.errors import EsyncError, InputRefused
from workers.host.reading import content_of

PATIENCE = 15.0  #: seconds of CPU, many times what each takes on a free core
MANY = 90_000
FILES = {
    "keys that never end": b"".join(b"k%d: v\n" % i for i in range(MANY)),
    "keys on one line": b"{" + b",".join(b"a%d: 1" % i for i in range(MANY)) + b"}",
    "one key again and again": b"a: 1\n" * MANY,
    "nodes that never end": b"nodes:\n" + b"- {name: S1}\n" * 50_000,
    "lists in lists": b"a: [" + b",".join([b"[" + b",".join([b"1"] * 90) + b"]"] * 5000) + b"]",
    "empty lists": b"[" + b"[]," * 300_000 + b"]",
    "deep": b"[" * 10_000,
    "deep and wide": b"".join(b" " * i + b"a:\n" for i in range(1000)),
    "question marks": b"? a\n" * MANY,
    "merges": b"a: &a {x: 1}\nb:\n" + b"  <<: *a\n" * 60_000,
    "blanks in a text": b'name: "' + b"a " * 400_000 + b'"',
    "lines in a text": b"name: |\n" + b"  a\n" * 200_000,
    "comments": b"# x\n" * 240_000,
    "no end of a quote": b"name: '" + b"a\n" * 400_000,
    "tags": b"a: " + b"!x " * 300_000,
    "documents": b"---\n" * 200_000,
    "UTF-16": VALID.encode("utf-16"),
    "UTF-32": VALID.encode("utf-32"),
    "NUL": VALID.encode().replace(b"shop", b"sh\0op"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_excessive_cluster_file_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    """The file is refused at the line where something grows too large; the rest is not read."""
    begun = time.thread_time()
    with pytest.raises(ClusterRefused) as caught:
        read_cluster(FILES[name], file="cluster.yaml", folder=tmp_path)
    assert time.thread_time() - begun < PATIENCE
    assert caught.value.mistakes[0].line >= 1
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize(
    "text", ['"\\e[31m"', '"\\0"', '"\\u202e"', '"\\u200b"', '"\\u2028"', "a\u202eb", "\u2066x", "a\u009bb"]
)
@pytest.mark.parametrize("key", ["user: ", "secret: ", "path: ", "host: "])
def test_invisible_characters_are_refused_in_every_text(key: str, text: str, tmp_path: Path) -> None:
    """Escapes, NUL, bidirectional and zero-width characters in any value; the message contains none of them either."""
    start = VALID.index(key) + len(key)
    end = min(place for mark in "\n,}" if (place := VALID.find(mark, start)) > 0)
    with pytest.raises(ClusterRefused) as caught:
        read_cluster((VALID[:start] + text + VALID[end:]).encode(), file="cluster.yaml", folder=tmp_path)
    assert all(line.isprintable() for line in str(caught.value).splitlines())


READERS: dict[str, Callable[[Path], object]] = {
    "cluster": load_cluster,
    "plan": load_plan,
    "bundle": check_file,
    "certificate": lambda path: content_of(path, 100, "certificate file"),
}


@pytest.mark.parametrize("kind", READERS)
def test_pipes_devices_and_folders_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    """Refused before anything is read: no process writes into the pipe, and the device never ends."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), tmp_path):
        refused: list[EsyncError] = []

        def read(path: Path = path, refused: list[EsyncError] = refused) -> None:
            with pytest.raises(EsyncError) as caught:
                READERS[kind](path)
            refused.append(caught.value)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert refused, path
        assert re.search("is not a regular file|Is a directory", str(refused[0]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["rollout", "-y"],
        ["verify"],
        ["report", "--check"],
        ["certs", "inspect"],
        ["propagate", "--changed", "S1"],
    ],
    ids=" ".join,
)
def test_commands_refuse_pipes(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command refuses a pipe with exit 1 and an error message."""
    os.mkfifo(tmp_path / "pipe")
    assert run([*arguments, str(tmp_path / "pipe")]) == 1
    assert "is not a regular file" in capsys.readouterr().err


def test_files_named_in_a_cluster_file_are_refused_at_once(tmp_path: Path) -> None:
    """A pipe as CA file or secret, or an invalid CA file, is a mistake in that line."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "odd.pem").write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    for named in ("ca_file: pipe", "ca_file: odd.pem", "ca_file: /dev/zero"):
        with pytest.raises(ClusterRefused, match=r"does not exist or cannot be read|contains no PEM certificate"):
            read_cluster(VALID.replace("  user:", f"  {named}\n  user:").encode(), file="f", folder=tmp_path)
    with pytest.raises(ClusterRefused, match="does not exist or cannot be read"):
        read_cluster(
            VALID.replace("env:ESYNC_SHOP_PASSWORD", "file:pipe").encode(), file="cluster.yaml", folder=tmp_path
        )


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read; one byte more is refused."""
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert content_of(tmp_path / "file", 100, "file") == b"x" * 100
    with pytest.raises(InputRefused, match="more than 99 bytes"):
        content_of(tmp_path / "file", 99, "file")
