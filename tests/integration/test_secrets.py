"""A planted password, connection string and private key are found only where they belong."""

import base64
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.report.build import build
from pipelines.usecases import runs
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.integration.test_rollout import SERVICE

pytestmark = pytest.mark.integration

PLANTED = "Tr0ub4dor-planted-in-the-connection-string"
CONNECTION = f"Server=db1;Database=cms;User Id=ektron;Password={PLANTED};"


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[tuple[Harness, LabProcess]]:
    """A lab with a known connection string, and its own harness."""
    with (
        four_servers(tmp_path / "lab", lab=f"connection: '{CONNECTION}'") as lab,
        harness_at(tmp_path / "harness", ESYNC_LOG_LEVEL="DEBUG") as harness,
    ):
        yield harness, lab


def needles(lab: LabProcess) -> dict[str, bytes]:
    """The secrets, in clear text and in base64."""
    pvk = on_disk(lab, "S1", rf"{SERVICE}\S1_SyncClient.pvk").read_bytes()
    pfx = on_disk(lab, "S1", rf"{SERVICE}\S1_SyncClient.pfx").read_bytes()
    return {
        "password": lab.password.encode(),
        "connection string": PLANTED.encode(),
        "private key": pvk[200:230],
        "private key in base64": base64.b64encode(pvk)[300:340],
        "pfx in base64": base64.b64encode(pfx)[300:340],
    }


def everything_in(harness: Harness) -> dict[str, bytes]:
    """All keys and values of the broker."""
    found: dict[str, bytes] = {}
    with harness.engine.app.connection_for_write() as connection:
        client = connection.default_channel.client
        for key in client.keys("*"):
            found[key.decode(errors="replace")] = key + b"\n" + (client.dump(key) or b"") + _values(client, key)
    return found


def _values(client: object, key: bytes) -> bytes:
    """The content of a key of any type, uncompressed."""
    readers = {
        b"string": lambda: client.get(key),  # type: ignore[attr-defined]
        b"hash": lambda: client.hgetall(key),  # type: ignore[attr-defined]
        b"list": lambda: client.lrange(key, 0, -1),  # type: ignore[attr-defined]
        b"set": lambda: client.smembers(key),  # type: ignore[attr-defined]
        b"zset": lambda: client.zrange(key, 0, -1),  # type: ignore[attr-defined]
        b"stream": lambda: client.xrange(key),  # type: ignore[attr-defined]
    }
    kind = client.type(key)  # type: ignore[attr-defined]
    return repr(readers[kind]()).encode()


def test_no_secret_is_found_anywhere(planted: tuple[Harness, LabProcess]) -> None:
    """They are in no Redis key, log, process list, outcome or report; the family is sealed."""
    harness, lab = planted
    run = harness.start(cluster_of(lab)).id
    processes = b""
    while harness.engine.store.run(run).state != "concluded":
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                processes += path.read_bytes()
        time.sleep(0.05)
    done = harness.finished(run)
    assert done.record.verdict == "joined"
    places = everything_in(harness) | {
        "worker log": harness.log().encode(),
        "process list": processes,
        "report": build(done).model_dump_json().encode(),
        "status": repr(runs.status(harness.engine, run)).encode(),
    }
    assert any("sealed" in place for place in places)
    found = [(what, place) for what, needle in needles(lab).items() for place, text in places.items() if needle in text]
    assert [] == found


def test_the_search_can_find_something(planted: tuple[Harness, LabProcess]) -> None:
    """The secrets are on the nodes: otherwise the search would prove nothing."""
    _, lab = planted
    (web,) = {
        on_disk(lab, node, r"C:\inetpub\wwwroot\CMS400\web.config").read_bytes().count(PLANTED.encode())
        for node in FOUR
    }
    assert web == 1
    assert lab.password in (lab.folder / "password").read_text()
