"""`esync sync`: what is refused before any server is contacted, and what a person reads first."""

from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.usecases import sync as syncs
from tasks.cluster import Cluster
from tests.integration.sync_world import a_sync_cluster
from workers.errors import InputRefused

CLUSTER = """\
name: shop
edition: "8.0"
origin: S1
site: {{path: 'C:\\inetpub\\wwwroot\\shop'}}
connection: {{user: svc, secret: "env:ESYNC_SHOP_PASSWORD"}}
{more}
nodes:
  - {{name: S1, host: 127.0.0.9, role: staging, pool: staging}}
  - {{name: S2, host: 127.0.0.8, role: staging, pool: staging}}
  - {{name: P1, host: 127.0.0.7, role: production, pool: production}}
"""
LOGIN = 'site_login: {user: admin, secret: "env:SITE"}'


@pytest.mark.parametrize(
    ("more", "arguments", "says"),
    [
        ("", "start FILE --from S1", "this cluster starts no syncs"),
        ("sync: {start: http}", "start FILE --from S1", "names none"),
        (f"sync: {{start: http}}\n{LOGIN}", "start FILE --from S1", "which sync profile"),
        ("sync: {start: gate}", "prove FILE", "S1, S2 have the role staging"),
        ("sync: {start: gate}", "prove FILE --from P1", "P1 is a production server"),
        ("sync: {start: gate}", "prove FILE --from X9", "X9"),
        ("sync: {start: gate, canary: {folder: App_GlobalResources}}", "prove FILE --from S1 -y", "would never arrive"),
        ("sync: {start: gate, canary: {extension: config}}", "prove FILE --from S1 -y", "would never arrive"),
        ("sync: {start: gate}", "loadbalance FILE --on S1", "as an administrator"),
        (f"sync: {{start: http}}\n{LOGIN}", "loadbalance FILE --on P1", "P1 is alone in its pool"),
        ("sync: {start: gate}", "prove FILE --from S1", "no terminal to ask"),
        ("sync: {start: http, url: 'https://x/path'}", "status FILE", "address of the site without a path"),
        (r"sync: {canary: {folder: '..\x'}}", "status FILE", "a folder below the site root"),
        ("sync: {every: 30, arrives: 10}", "status FILE", "is longer than arrives"),
        ('site_login: {user: a, secret: "keytab:/x"}', "status FILE", "file that does not exist"),
    ],
)
def test_what_cannot_be_started_is_refused(
    more: str, arguments: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit status 1, and the reason."""
    file = tmp_path / "shop.yaml"
    file.write_text(CLUSTER.format(more=more))
    assert run(["sync", *arguments.replace("FILE", str(file)).split()]) == 1
    told = capsys.readouterr()
    assert says in told.err, told.err
    assert "" == told.out


def test_a_person_knows_before_a_sync_what_it_rests_on() -> None:
    """The confidence, the clustered staging servers, templates of production, a password over http."""
    cluster = a_sync_cluster()
    asked = syncs.asked_for(cluster, "S1")
    told = " ".join(syncs.cautions(cluster, asked, syncs.PROVE))
    for part in ("confidence C", "take one, such as S2, out", "templates", "over http the password can be read"):
        assert part in told
    gate = syncs.asked_for(cluster, "S1", gate=True)
    assert "confidence" not in " ".join(syncs.cautions(cluster, gate, syncs.START))


def test_the_only_staging_server_needs_no_name() -> None:
    """And the profile of the cluster file is the default."""
    data = a_sync_cluster().model_dump()
    data["nodes"] = [node for node in data["nodes"] if node["name"] != "S2"]
    asked = syncs.asked_for(Cluster.model_validate(data))
    assert ("S1", "Nightly", "http") == (asked.node, asked.profile, asked.start)
    assert "Weekly" == syncs.asked_for(a_sync_cluster(), "s1", "Weekly").profile
    with pytest.raises(InputRefused, match="would never arrive"):
        syncs.cautions(a_sync_cluster(canary={"folder": "bin", "extension": "pfx"}), asked, syncs.PROVE)
