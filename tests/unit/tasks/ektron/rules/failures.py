"""The known failures of the product (ektron-facts 6): what of each is found before it happens, and what is not.

A failure is played by breakages (`breakages.py`) and by changed facts (`sensitivity.py`); what no fact shows is asked
of a person (`attestations.py`), or has a reason why nothing is said about it.
"""

from dataclasses import dataclass

from tasks.ektron.rules.findings import Finding
from tests.unit.tasks.ektron.joined import broken
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES
from tests.unit.tasks.ektron.rules.sensitivity import findings_of, matrix

__all__ = ["FAILURES", "Failure"]

_IN_DATABASE = "it is in the database, which esync does not read"
_NOT_READ = "the files of a sync itself are the product's own; esync does not read them"
_DURING_SYNC = "it happens during a sync and leaves nothing that could be observed before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure.

    Attributes:
        what: the situation, in our own words.
        played: names of breakages, or facts of the sensitivity matrix.
        asked: ids of attestations.
        silent: why nothing, or nothing more, is said.
    """

    what: str
    played: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    silent: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules find in all that plays it; each rule once."""
        found: dict[str, Finding] = {}
        for name in self.played:
            for finding in _findings_about(name):
                found.setdefault(finding.invariant, finding)
        return tuple(found.values())


def _findings_about(name: str) -> tuple[Finding, ...]:
    if name in BREAKAGES:
        node, breakage, _ = BREAKAGES[name]
        return findings_of(broken(node, breakage))
    return next(row.findings for row, _ in matrix() if row.fact == name)


#: number of the row -> the failure
FAILURES: dict[int, Failure] = {
    1: Failure(
        what="a sync ends at once: client files, endpoints or WSPath of the site are wrong, or its account",
        played=("web root file gone", "factory endpoints", "an endpoint gone", "web service silent"),
        asked=("accounts.permissions",),
    ),
    2: Failure(
        what="the channel between site and service is faulted",
        played=("service stopped", "web service fails", "encoded value of another family"),
        asked=("licence.load-balancing",),
    ),
    3: Failure(
        what="web.config and the service's configuration have different certificates",
        played=("encoded value of another family", "encoded value empty"),
    ),
    4: Failure(what="client files were deleted from the site root", played=("web root file gone",)),
    5: Failure(what="publickCertKeys lacks a server", played=("key missing", "no keys element")),
    6: Failure(what="the endpoints still name the factory certificate", played=("factory endpoints",)),
    7: Failure(what="no certificates are found", played=("a family file gone", "origin lost its family")),
    8: Failure(what="certificates cannot be read", played=("service stopped", "one byte of a family file")),
    9: Failure(
        what="no sites are offered for a relationship: certificates are missing on one side, or have another name",
        played=("key of another certificate", "a family file gone", "another machine answers"),
    ),
    10: Failure(
        what="a remote server is not found, has no site, no running service, or another time",
        played=("way blocked", "service not installed", "site folder gone", "clock five minutes ahead"),
    ),
    11: Failure(what="port 8732 refuses connections", played=("not listening", "way blocked")),
    12: Failure(
        what="the service runs but does not listen, because the site does not load",
        played=("not listening", "web service fails"),
    ),
    13: Failure(
        what="a proxy or name resolution is in the way",
        played=("web service fails", "way blocked"),
        silent="the proxy settings of the service's account are not observed",
    ),
    14: Failure(what="clocks differ by more than five minutes", played=("clock five minutes ahead",)),
    15: Failure(
        what="the services have different builds",
        played=("patched program of the same version", "service of another update"),
    ),
    16: Failure(what="a sync is shown as running, but none runs", silent=_IN_DATABASE),
    17: Failure(what="share_index differs", asked=("database.server-index",)),
    18: Failure(what="server_index is not unique, after a database was cloned", asked=("database.server-index",)),
    19: Failure(what="stale sync state in the folder sync", silent=_NOT_READ),
    20: Failure(
        what="two environments share one StorageLocation",
        played=("asset.storage_location",),
        asked=("storage.location-unique",),
    ),
    21: Failure(what="a seed file is missing in uploadedFiles", silent=_NOT_READ),
    22: Failure(
        what="out of memory, because batches are large",
        played=("another batch size",),
        silent="which size is too large depends on the databases",
    ),
    23: Failure(what="a conflict that cannot be resolved", silent=_DURING_SYNC),
    24: Failure(what="keys are violated in the first sync, because editors were working", silent=_DURING_SYNC),
    25: Failure(what="load balancing never completes", played=("stale status files",)),
    26: Failure(what="load balancing is refused: another server is said to be busy", played=("stale status files",)),
    27: Failure(
        what="load balancing is not authorised",
        played=("asset flag 0", "asset flag true"),
        silent="the roles of the user who starts it are in the database",
    ),
    28: Failure(
        what="load balancing has no status: the server is not set up for it",
        played=("asset flag gone", "service flag 0", "restart owed"),
    ),
    29: Failure(what="a server of the cluster is down", played=("service stopped", "way blocked", "not listening")),
    30: Failure(what="the flags are set, but nothing was restarted", played=("restart owed",)),
    31: Failure(
        what="uploaded files are missing on other servers",
        played=("library count", "service_config.library_load_balanced"),
    ),
    32: Failure(what="a new file is missing for a while", played=("assets are not passed through",)),
    33: Failure(
        what="links are broken after a sync: paths differ",
        played=("site elsewhere", "another virtual path"),
    ),
    34: Failure(what="random logouts: no sticky sessions", asked=("balancer.sticky-sessions",)),
    35: Failure(what="licence errors", asked=("licence.load-balancing",)),
    36: Failure(
        what="errors after a change of the connection string",
        played=("sitedb of another database", "data.config of another database"),
        silent=f"the relationships hold the old string: {_IN_DATABASE}",
    ),
    37: Failure(what="search finds nothing after the first sync failed", asked=("search.after-failed-first-sync",)),
    38: Failure(
        what="the search tool needs Windows features",
        silent="the tool reports it itself; a rollout does not run it",
    ),
    39: Failure(
        what="the service uses an old path or connection",
        played=("sitedb of another database", "sitedb of another site path", "sitedb of another folder"),
    ),
    40: Failure(
        what="an edit vanished when files were generated again",
        played=("sitedb of another database", "readiness.rivals"),
    ),
    41: Failure(
        what="access to files is denied",
        played=("system.admin",),
        asked=("accounts.permissions",),
        silent="the rights of the site's and the service's accounts are not observed",
    ),
    42: Failure(
        what="a configuration copied from another server names its certificate",
        played=("server certificate of another node", "UserDomain of another server"),
    ),
    43: Failure(what="the certificates have expired", played=("certificate expired",)),
    44: Failure(what="a template sync replaces the login page", asked=("min-site.login-page",)),
    45: Failure(what="the sync of single pages is not offered", played=("eSync switched off on one node",)),
    46: Failure(what="a second sync is refused", silent=_DURING_SYNC),
    47: Failure(what="a user is logged out by the first sync", silent=_DURING_SYNC),
    48: Failure(what="a handler answers `null` without a login", silent="the rules need no login to the site"),
    49: Failure(what="deleted content cannot be synced back", silent=_IN_DATABASE),
    50: Failure(
        what="a content sync takes very long",
        silent="the depth of the recursion is a decision of the editors, and no fact shows the amount of content",
    ),
}
