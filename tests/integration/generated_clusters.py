"""Generated clusters: names, editions, pools, and the faults of each server.

A cluster is a value with a short text, so that a failure that hypothesis found can be read and repeated.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import strategies as st

from lab.machine.errors import Refusal
from lab.machine.paths import WindowsPath
from tasks.cluster import Cluster
from tests.integration.one_process import PASSWORD, Esync
from tests.integration.simulated_servers import Server, family
from workers.records import Verdict

__all__ = ["REFUSED", "WOUNDS", "Shape", "made", "shapes"]

SITES = (r"C:\inetpub\wwwroot\CMS400", r"C:\Web Sites\Intranet & more")
STAGING = WindowsPath.of(r"C:\Ektron Security Certificates")
STRANGER = family(1)

Wound = Callable[[Server, str], None]  #: changes a server; the text is the name of a node of its cluster


@dataclass(frozen=True)
class Shape:
    """A cluster in short form.

    Attributes:
        origin: index of the origin among the names.
        joined: the servers were joined before the faults; otherwise they were untouched.
        wounds: for each server, in the order of the names; each one is a name of `WOUNDS`.
    """

    edition: str
    site: str
    names: tuple[str, ...]
    origin: int
    waves: str | tuple[int | str, ...]
    joined: bool
    wounds: tuple[tuple[str, ...], ...]

    @property
    def cluster(self) -> Cluster:
        """As in a cluster file; every second server belongs to production."""
        nodes = [
            {"name": name, "host": f"10.9.0.{place + 1}", "role": role, "pool": role}
            for place, name in enumerate(self.names)
            for role in ("production" if place % 2 else "staging",)
        ]
        return Cluster.model_validate(
            {
                "name": "generated",
                "edition": self.edition,
                "origin": self.names[self.origin],
                "site": {"path": self.site},
                "connection": {"user": "esync", "secret": f"env:{PASSWORD}"},
                "policy": {"waves": self.waves, "max_failed": 5, "deadlines": {"service": 3, "settle": 0}},
                "nodes": nodes,
            }
        )


def made(shape: Shape) -> Esync:
    """The cluster, with its faults."""
    esync = Esync(shape.cluster)
    if shape.joined:
        assert esync.rollout().record.verdict is Verdict.JOINED
    for place, (name, wounds) in enumerate(zip(shape.names, shape.wounds, strict=True)):
        for wound in wounds:
            (WOUNDS | REFUSED)[wound](esync.servers[name], shape.names[(place + len(wound)) % len(shape.names)])
    for server in esync.servers.values():
        server.journal.clear()
    return esync


# -- files of a server ---------------------------------------------------------------------------------------------


def _asset(server: Server) -> WindowsPath:
    return server.product.site.child("AssetManagement.config")


def _config(server: Server) -> WindowsPath:
    return server.product.edition.service_config


def _web(server: Server) -> WindowsPath:
    return server.product.site.child("web.config")


def _ews(server: Server) -> WindowsPath:
    return server.product.edition.updates_config


def _put(server: Server, path: WindowsPath, data: bytes, *, quietly: bool) -> None:
    """Changes a file; with `quietly` its time stays the same, so that no restart is owed."""
    before = server.disk.stat(path)
    server.disk.put(path, data)
    if before and quietly:
        server.disk.touch(path, before.mtime)


def edit(
    file: Callable[[Server], WindowsPath], pattern: bytes, new: bytes, *, count: int = 1, quietly: bool = True
) -> Wound:
    """Replaces bytes of a file, where the file has them; NODE is replaced with the name of the other node."""

    def wound(server: Server, other: str) -> None:
        path = file(server)
        if server.disk.stat(path) is None:
            return
        data = server.disk.read(path)
        wanted = pattern.replace(b"NODE", re.escape(other.encode()))
        changed = re.sub(wanted, new.replace(b"NODE", other.encode()), data, count=count)
        if changed != data:
            _put(server, path, changed, quietly=quietly)

    return wound


def _in_service_folder(name: str) -> Callable[[Server, str], WindowsPath]:
    return lambda server, other: server.product.service_folder.child(name.replace("NODE", other))


def _in_site(name: str) -> Callable[[Server, str], WindowsPath]:
    return lambda server, _: server.product.site.child(name.replace("NODE", server.name))


def _in_staging(name: str) -> Callable[[Server, str], WindowsPath]:
    return lambda server, _: STAGING.child(name.replace("NODE", server.name))


def _in_configurator(name: str) -> Callable[[Server, str], WindowsPath]:
    return lambda server, other: server.product.edition.configurator_folder.child(name.replace("NODE", other))


def gone(place: Callable[[Server, str], WindowsPath]) -> Wound:
    """Removes a file, where it exists."""

    def wound(server: Server, other: str) -> None:
        with suppress(Refusal):
            server.disk.remove(place(server, other))

    return wound


def there(place: Callable[[Server, str], WindowsPath], data: bytes, *, quietly: bool = True) -> Wound:
    """Writes a file: other content, or a file that should not exist."""

    def wound(server: Server, other: str) -> None:
        path = place(server, other)
        server.disk.make_folder(path.parent)
        _put(server, path, data, quietly=quietly)

    return wound


def touched(file: Callable[[Server], WindowsPath]) -> Wound:
    """Writes a file again with the same bytes."""

    def wound(server: Server, _: str) -> None:
        if server.disk.stat(file(server)):
            server.disk.touch(file(server))

    return wound


def _respelt(server: Server, other: str) -> None:
    """Renames a certificate file to the same name in other case."""
    path = server.product.service_folder.child(f"{other}_SyncServer.cer")
    if server.disk.stat(path):
        data = server.disk.read(path)
        server.disk.remove(path)
        server.disk.put(server.product.service_folder.child(f"{other.lower()}_SYNCSERVER.Cer"), data)


def _staging_gone(server: Server, _: str) -> None:
    for name in server.disk.names(STAGING):
        server.disk.remove(STAGING.child(name))
    if server.disk.stat(STAGING):
        server.disk.remove(STAGING)


def _stopped(server: Server, _: str) -> None:
    if server.service.pid:
        server.service.request_stop()


def _crashed(server: Server, _: str) -> None:
    server.service.die()


def _restarted(server: Server, _: str) -> None:
    if server.service.pid:
        server.service.request_stop()
    server.service.request_start()


def _made_anew(server: Server, _: str) -> None:
    """Generates certificates there again: on the origin this is a new family for all nodes."""
    server.configure(2)


def _whole_family_of(number: int) -> Wound:
    def wound(server: Server, other: str) -> None:
        for name, data in family(number).files(other):
            there(_in_service_folder(name), data)(server, other)

    return wound


def _line_ends(file: Callable[[Server], WindowsPath]) -> Wound:
    """Saves the file as an editor would: other line ends, a comment at the end."""

    def wound(server: Server, _: str) -> None:
        data = server.disk.read(file(server)).replace(b"\r\n", b"\n").rstrip() + b"\n<!-- looked at -->\n"
        _put(server, file(server), data, quietly=True)

    return wound


_KEY = rb'<add key="NODE_SyncClient\.cer"[^>]*>'
_KEYS = rb"(?s)<publickCertKeys>.*?</publickCertKeys>|<publickCertKeys/>"
_VALUE = rb'(<add key="NODE_SyncClient\.cer" encodedValue=")[^"]*'
_FLAG = rb'(<add key="LoadBalanced" value=")[^"]*("/>)'
_OTHER = STRANGER.client.encoded.encode()

WOUNDS: dict[str, Wound] = {
    "asset flag 0": edit(_asset, rb'(\sLoadBalanced=")[^"]*(" S)', rb"\g<1>0\2"),
    "asset flag true": edit(_asset, rb'(\sLoadBalanced=")[^"]*(" S)', rb"\1true\2", quietly=False),
    "asset flag empty": edit(_asset, rb'(\sLoadBalanced=")[^"]*(" S)', rb"\1\2"),
    "asset flag absent": edit(_asset, rb'\sLoadBalanced="[^"]*"( S)', rb"\1"),
    "asset line ends": _line_ends(_asset),
    "asset touched": touched(_asset),
    "service flag 0": edit(_config, _FLAG, rb"\g<1>0\2"),
    "service flag true": edit(_config, _FLAG, rb"\1true\2", quietly=False),
    "service flag absent": edit(_config, rb'<add key="LoadBalanced" value="[^"]*"/>', b""),
    "service flag in small letters": edit(
        _config, rb'key="LoadBalanced" value="[^"]*"/', rb'key="loadbalanced" value="0"/'
    ),
    "service flag twice": edit(_config, rb'(<add key="LoadBalanced" value="[^"]*"/>)', rb"\1\1"),
    "service line ends": _line_ends(_config),
    "service touched": touched(_config),
    "key gone": edit(_config, _KEY, b""),
    "key in a comment": edit(_config, rb"(" + _KEY + rb")", rb"<!-- \1 -->"),
    "key of another": edit(_config, _VALUE, rb"\1" + _OTHER),
    "key of another, just now": edit(_config, _VALUE, rb"\1" + _OTHER, quietly=False),
    "key garbage": edit(_config, _VALUE, rb"\1????"),
    "key empty": edit(_config, _VALUE, rb"\1"),
    "key with a blank": edit(_config, _VALUE, rb"\g<0> "),
    "key twice": edit(_config, rb"(" + _KEY + rb")", rb"\1\1"),
    "key of nobody": edit(
        _config,
        rb"<publickCertKeys>",
        b'<publickCertKeys><add key="LONGER-THAN-NAMES_SyncClient.cer" encodedValue="' + _OTHER + b'"/>',
    ),
    "keys cleared first": edit(_config, rb"<publickCertKeys>", rb"<publickCertKeys><clear/>"),
    "no keys": edit(_config, _KEYS, rb"<publickCertKeys/>"),
    "no element for keys": edit(_config, _KEYS, b""),
    "keys in capitals": edit(_config, rb"_SyncClient\.cer", b"_SYNCCLIENT.CER", count=0),
    "keys cleared last": edit(_config, rb"</publickCertKeys>", rb"<clear/></publickCertKeys>"),
    "key removed again": edit(
        _config, rb"</publickCertKeys>", rb'<remove key="NODE_SyncClient.cer"/></publickCertKeys>'
    ),
    "server certificate empty": edit(_config, rb'serverCertificate="[^"]*"', rb'serverCertificate=""'),
    "server certificate of another": edit(
        _config, rb'serverCertificate="[^"]*"', rb'serverCertificate="NODE_SyncServer.pfx"'
    ),
    "server certificates of another": edit(
        _config, rb'serverCertificate="[^"]*"', rb'serverCertificate="NODE_SyncServer.pfx"', count=0
    ),
    "server certificate in capitals": edit(_config, rb"_SyncServer\.pfx", b"_SYNCSERVER.PFX", count=0),
    "factory endpoint": edit(
        _web, rb'clientCertificate="[^"]*"', rb'clientCertificate="EktronSyncClient.pfx"', quietly=False
    ),
    "endpoint of another": edit(_web, rb'clientCertificate="[^"]*"', rb'clientCertificate="NODE_SyncClient.pfx"'),
    "endpoint in capitals": edit(_web, rb"_SyncClient\.pfx", b"_SYNCCLIENT.PFX", count=0),
    "endpoint without certificate": edit(_web, rb'\sclientCertificate="[^"]*"', b""),
    "encodedValue absent, another file included": edit(_web, rb'<add key="encodedValue"[^>]*>', b""),
    "encodedValue empty": edit(_web, rb'(key="encodedValue" value=")[^"]*', rb"\1"),
    "encodedValue of another": edit(_web, rb'(key="encodedValue" value=")[^"]*', rb"\1" + _OTHER),
    "web line ends": _line_ends(_web),
    "web touched": touched(_web),
    "certificate gone": gone(_in_service_folder("NODE_SyncClient.pvk")),
    "certificate changed": there(_in_service_folder("NODE_SyncServer.pfx"), b"not a certificate"),
    "certificate changed, just now": there(_in_service_folder("NODE_SyncClient.cer"), b"x" * 700, quietly=False),
    "certificate respelt": _respelt,
    "family of another": _whole_family_of(1),
    "certificate of nobody": there(_in_service_folder("OLD_SyncClient.cer"), STRANGER.client.cer, quietly=False),
    "something else in the service folder": there(_in_service_folder("notes.txt"), b"x", quietly=False),
    "web root file gone": gone(_in_site("NODE_SyncClient.cer")),
    "web root file changed": there(_in_site("NODE_SyncClient.pfx"), b"x"),
    "server file in the web root": there(_in_site("NODE_SyncServer.pfx"), b"x"),
    "stray in staging": there(_in_staging("NODE0_SyncClient.pfx"), b"x"),
    "strays in staging": there(_in_staging("old.CER"), b"x"),
    "notes in staging": there(_in_staging("read me.txt"), b"x"),
    "staging file gone": gone(_in_staging("NODE_SyncServer.cer")),
    "staging file changed": there(_in_staging("NODE_SyncServer.pvk"), b"x"),
    "no staging folder": _staging_gone,
    "renamed copy gone": gone(_in_configurator("NODE_SyncServer.pvk")),
    "renamed copy changed": there(_in_configurator("NODE_SyncServer.cer"), b"x"),
    "EWSUpdates key gone": edit(_ews, _KEY, b""),
    "EWSUpdates key of another": edit(_ews, _VALUE, rb"\1" + _OTHER),
    "no EWSUpdates copy": gone(lambda server, _: _ews(server)),
    "generated anew": _made_anew,
    "service stopped": _stopped,
    "service crashed": _crashed,
    "service restarted": _restarted,
}

#: What no run repairs, because editing is refused: a person has to do it. Not used in generated clusters.
REFUSED: dict[str, Wound] = {
    "key twice, with different values": edit(_config, _VALUE, rb"\1" + _OTHER + rb'"/>\g<0>'),
    "appSettings encrypted": edit(
        _web,
        rb"(?s)<appSettings.*</appSettings>",
        b'<appSettings configProtectionProvider="Rsa"><EncryptedData/></appSettings>',
    ),
}


# -- generated values ----------------------------------------------------------------------------------------------

_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}", fullmatch=True) | st.sampled_from(
    ["S1", "s10", "S1-", "P1", "S1_SyncClient", "WEB-01", "0", "CON", "OLD"]
)
_waves: st.SearchStrategy[str | tuple[int | str, ...]] = st.sampled_from(["pools", "all", (1,), (1, "50%"), (2, 3)])


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Generates a cluster of 1 to 5 servers; about half of the servers of a joined cluster have no fault."""
    names = draw(st.lists(_names, min_size=1, max_size=5, unique_by=str.upper))
    joined = draw(st.booleans())
    wounds = st.lists(st.sampled_from(sorted(WOUNDS)), max_size=4, unique=True).map(tuple)
    return Shape(
        edition=draw(st.sampled_from(["8.0", "8.5", "9.1"])),
        site=draw(st.sampled_from(SITES)),
        names=tuple(names),
        origin=draw(st.integers(0, len(names) - 1)),
        waves=draw(_waves),
        joined=joined,
        wounds=tuple(draw(st.just(()) | wounds) for _ in names),
    )
