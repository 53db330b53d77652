"""A whole job over `rediss://` with a client certificate: messages, results and the run store."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from redis import Redis

from lab.control.remote import LabProcess
from tests.integration.harness import cluster_of, four_servers, harness_at
from tests.integration.test_sentinel import at, lengths
from tests.relay import Relay
from workers.errors import StoreUnavailable
from workers.records import Verdict
from workers.redis.connection import connect, with_retries
from workers.settings import Secret

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def both_ends(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server that requires a client certificate, and the options of a URL that has one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    own = authority.issue_cert("esync")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    own.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    return context, f"ssl_certfile={folder}/cert.pem&ssl_keyfile={folder}/key.pem&ssl_ca_certs={folder}/ca.pem"


def test_flower_counts_over_tls_with_a_client_certificate(tmp_path: Path, valkey: Redis) -> None:
    """Flower asks the broker as workers and commands do."""
    context, options = both_ends(tmp_path)
    valkey.rpush("esync.v1.nodes", "one", "two")
    known = valkey.connection_pool.connection_kwargs
    with Relay(known["port"], context) as relay:
        account = f":{known['password']}@" if known.get("password") else ""
        url = Secret(f"rediss://{account}127.0.0.1:{relay.port}/{known['db']}?{options}")
        assert lengths(tmp_path, url)["esync.v1.nodes"] == 2


def test_a_whole_job_over_tls_with_a_client_certificate(tmp_path: Path, lab: LabProcess) -> None:
    """A rollout joins; without the client certificate the error says that one is required."""
    context, options = both_ends(tmp_path)
    with harness_at(tmp_path / "harness", worker=False) as own:
        plain = own.environment["ESYNC_BROKER_URL"]
        account, _, port = plain.removeprefix("redis://").removesuffix("/0").rpartition(":")
        with Relay(int(port), context) as relay:
            url = f"rediss://{account}:{relay.port}/0"
            harness = at(own, Secret(f"{url}?{options}"))
            harness.start_worker()
            try:
                assert Verdict.JOINED is harness.rollout(cluster_of(lab)).record.verdict
            finally:
                harness.end_worker()
                harness.engine.app.close()
            authority = options.rpartition("&")[2]
            with pytest.raises(StoreUnavailable, match="certificate required") as caught:
                with_retries(connect(Secret(f"{url}?{authority}")).ping, 0)
            assert "ssl_certfile" in caught.value.remedy
