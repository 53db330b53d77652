"""`esync trust`: shows the certificates of the listeners, and pins them after a yes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import AsJson, ClusterFile, CommandExit, Yes, confirm, notify, print_json
from pipelines.cli.nodes import NodeNames
from pipelines.cluster_file.loader import load_cluster
from pipelines.cluster_file.pins import PINS_FILE, pem_text, with_fingerprints
from pipelines.cluster_file.positions import MAX_BYTES
from pipelines.report.layout import printable
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.trust import Shown, collect, fingerprints_of, pinned_in, pins_beside, require_unchanged
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.host.private import write_private
from workers.host.reading import content_of
from workers.records import Verdict
from workers.winrm.listener import grouped

__all__ = ["trust"]


def trust(
    file: ClusterFile,
    *,
    node: NodeNames = None,
    replace: Annotated[
        list[str] | None, typer.Option("--replace", metavar="NODE", help="Accept the changed certificate of this node.")
    ] = None,
    pem: Annotated[bool, typer.Option("--pem", help=f"Pin in {PINS_FILE} beside the file, not in the file.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show the certificates of all listeners, and pin those that are new. A changed one is refused. Does not log on."""
    cluster = load_cluster(file)
    chosen = selected_nodes(cluster, node or ()) or cluster.node_names
    accepted = set(selected_nodes(cluster, replace or ()))
    beside, earlier = file.parent / PINS_FILE, pins_beside(file) if pem else {}
    pinned = fingerprints_of(earlier) if pem else pinned_in(cluster)
    shown = collect(cluster, chosen, pinned)
    for one in shown:
        notify("\n".join(_lines(one)), "" if one.certificate else "magenta")
    if as_json:
        print_json([{**one.model_dump(mode="json"), "pin": one.pin} for one in shown])
    require_unchanged(shown, accepted)
    new = [one for one in shown if one.pin in {"new", "changed"}]
    if new:
        notify(f"compare the fingerprints on the servers, then pin {counted(len(new), 'certificate')}", "bold")
        confirm(yes=yes, what="pins certificates")
        if pem:
            _write_pem(beside, cluster, earlier, new)
        else:
            text = content_of(file, MAX_BYTES, "cluster file").decode("utf-8")
            write_private(file, with_fingerprints(text, _by_place(cluster, new)).encode())
            notify(f"pinned in {file}")
    else:
        notify("no certificate is new")
    raise CommandExit(0 if all(one.certificate for one in shown) else Verdict.UNREACHABLE.exit_code)


def _by_place(cluster: Cluster, new: Iterable[Shown]) -> dict[int, str]:
    """The place of a node in the file -> its fingerprint."""
    return {cluster.node_names.index(one.node): one.fingerprint for one in new}


def _lines(one: Shown) -> Iterable[str]:
    """What a person compares, for one node."""
    found = one.certificate
    if found is None:
        yield printable(f"{one.node}  {one.address} {one.problem}")
        if one.remedy:
            yield printable(f"  Fix: {one.remedy}")
        return
    state = {"new": "not pinned", "same": "pinned already", "changed": "CHANGED"}.get(one.pin, "")
    yield f"{one.node}  {one.address}  {state}"
    issuer = "self-signed" if found.self_signed else f"issued by {found.issuer}"
    yield printable(f"  subject      {found.subject}, {issuer}; valid for {', '.join(found.names) or 'no host name'}")
    yield f"  valid        {found.begins:%Y-%m-%d} to {found.ends:%Y-%m-%d}"
    yield f"  key          {found.bits or 'no RSA'} bits, signature {found.digest or 'of an unknown kind'}"
    yield f"  SHA-256      {one.fingerprint}"


def _write_pem(path: Path, cluster: Cluster, earlier: Mapping[str, str], new: Iterable[Shown]) -> None:
    pems = {**earlier, **{one.node: one.pem for one in new}}
    prints = fingerprints_of(pems)
    known = {
        name: (f"{cluster.server(name)} SHA-256 {grouped(prints[name])}", pems[name])
        for name in cluster.node_names
        if name in prints
    }
    write_private(path, pem_text(known))
    notify(f"pinned in {path}; nodes use it with `ca_file: {PINS_FILE}` in `connection`")
