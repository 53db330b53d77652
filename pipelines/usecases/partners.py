"""What a server outside a cluster needs to sync with it: the family under its own name, and the keys of all servers.

A partner needs its own certificate and one from every server of the cluster (ektron-facts 10); all of these are copies
of one family. While the family is renewed, it needs the new one beside the old one.
"""

from contextlib import suppress
from xml.sax.saxutils import quoteattr

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.identity import of_cluster
from tasks.cluster import Cluster
from tasks.ektron.certificates.both import NEW
from tasks.ektron.certificates.family import Family
from workers.errors import InputRefused, RecordRefused
from workers.records import RunRecord, RunState, Verdict

__all__ = ["family_in_use", "files_for_partner"]

_BACK = 200  #: runs among which the family in use is searched


def family_in_use(engine: Engine, cluster: Cluster) -> tuple[Family, RunRecord]:
    """The certificate family that the newest successful run handed out in a cluster, and that run.

    Raises:
        InputRefused: no such run is kept here.
        SecretUnavailable: there is no seal key.
    """
    for record in engine.store.runs(_BACK):
        if record.verdict is not Verdict.JOINED or record.state is not RunState.CONCLUDED:
            continue
        if kind_of(record.kind, record.id).read_only or not of_cluster(record, cluster):
            continue
        with suppress(RecordRefused):
            family = engine.documents(record).family()
            if family is not None:
                return family, record
    raise InputRefused(
        f"no run kept here has handed out the certificates of cluster {cluster.name} and ended joined",
        remedy="run a rollout here, which reads the family from the origin; then repeat this",
    )


def files_for_partner(cluster: Cluster, partner: str, family: Family, *, renews: bool = False) -> dict[str, bytes]:
    """File name -> content of what a partner needs: its six files, the entries of publickCertKeys, and a text.

    Args:
        cluster: with which it syncs.
        partner: its name.
        family: that of the cluster.
        renews: whether that is the new family of a renewal: then it comes beside the old one, under a name of its own.

    Raises:
        InputRefused: the partner is a node of the cluster.
    """
    if partner.upper() in {name.upper() for name in cluster.node_names}:
        raise InputRefused(
            f"{partner} is a node of cluster {cluster.name}, and a rollout gives it its files",
            remedy="name a server outside the cluster",
        )
    others = [*cluster.node_names, *(name for name in cluster.partners if name.upper() != partner.upper())]
    names = [NEW] if renews else [*others, partner]
    value = quoteattr(family.encoded_value)
    lines = [f"  <add key={quoteattr(f'{name}_SyncClient.cer')} encodedValue={value} />" for name in names]
    keys = "\r\n".join(["<publickCertKeys>", *lines, "</publickCertKeys>", ""])
    owners = (partner, NEW) if renews else (partner,)
    files = {name: family.blobs[kind] for owner in owners for name, kind in family.files_for(owner).items()}
    text = (
        f"For {partner}, so that it can sync with cluster {cluster.name}.",
        "The .pfx and .pvk files contain private keys without a password: delete them here after copying them.",
        "",
        *(_while_renewed(partner) if renews else _steps(partner)),
        "",
    )
    return files | {"publickCertKeys.xml": keys.encode(), "README.txt": "\r\n".join(text).encode()}


def _while_renewed(partner: str) -> tuple[str, ...]:
    """Nothing that is trusted now is replaced, apart from copies of the old family under the partner's own name."""
    return (
        "The certificates of the cluster are being renewed, and have not changed yet.",
        f"1. Copy the six files {NEW}_Sync* to the folder of the Windows service on {partner}.",
        f"2. Where the six files {partner}_Sync* there are copies of the cluster's present family, replace them by",
        "   these. A family of its own stays.",
        "3. Add the entry of publickCertKeys.xml to ektron.serviceModel/publickCertKeys of the service's",
        "   configuration. All others stay.",
        "4. Restart the Windows service. Then, on the machine of esync: esync certs renew FILE --partners-ready",
        f"5. When the renewal has ended, export again: esync certs export FILE --for {partner} has the keys that",
        f"   replace the old ones; then remove {NEW}.",
    )


def _steps(partner: str) -> tuple[str, ...]:
    return (
        f"1. Copy the six files {partner}_Sync* to a folder off the drive root of {partner} that is named",
        "   Ektron Security Certificates and holds no other security files.",
        "2. Open the Security Configurator there and choose Apply Remote Server Certificates with that folder.",
        "3. Add the entries of publickCertKeys.xml to ektron.serviceModel/publickCertKeys of the service's",
        "   configuration, in place of entries with the same key. Those of other servers stay.",
        "4. Restart the Windows service.",
    )
