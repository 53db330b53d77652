"""What no program can see: questions a person has to answer, each with its reason."""

from tasks.ektron.facts import Fact

__all__ = ["Attestation", "attestations"]


class Attestation(Fact):
    """A question, why it matters, and what to do when the answer is no.

    Attributes:
        when: `once`, or `before each sync`.
    """

    id: str
    question: str
    why: str
    remedy: str
    source: str
    when: str = "once"


def attestations(*, nodes: int, staging: int, production: int) -> tuple[Attestation, ...]:
    """The questions for a cluster of that many nodes.

    Args:
        nodes: all nodes.
        staging: nodes of role staging.
        production: nodes of role production.
    """
    found = list(_ALWAYS)
    found.append(_licence(nodes))
    if staging > 1:
        found.append(_STAGING_OUT)
    if production:
        found.append(_TEMPLATES)
    return tuple(found)


def _licence(nodes: int) -> Attestation:
    return Attestation(
        id="licence.load-balancing",
        question=f"Does every database's licence key allow eSync (S or EN) and {nodes} load-balanced servers (L-n)?",
        why="one invalid key anywhere breaks eSync",
        remedy=f"get keys with S or EN and with L-{nodes} or more",
        source="ektron-facts 3.5; 6, row 35",
    )


_STAGING_OUT = Attestation(
    id="staging.one-out-before-sync",
    question="Is one of the clustered staging servers taken out of the balancer before this sync is started?",
    why="the procedure asks for it where staging servers are clustered",
    remedy="take one staging server out of its pool, sync, and put it back",
    source="procedure, prerequisites; ektron-facts 5",
    when="before each sync",
)
_TEMPLATES = Attestation(
    id="templates.staging-only",
    question="Are templates changed on staging servers only, never on production?",
    why="a template changed on production is not carried to staging",
    remedy="make the change on the staging server, then sync from there",
    source="procedure, warnings; ektron-facts 5",
    when="before each sync",
)
_ALWAYS = (
    Attestation(
        id="balancer.sticky-sessions",
        question="Does the balancer keep each session on one server?",
        why="without sticky sessions editors are logged out at random and see half-edited content",
        remedy="switch session affinity on for the site's virtual server",
        source="ektron-facts 3.5; 6, row 34",
    ),
    Attestation(
        id="sync.initiated-from-staging",
        question="Are relationships and syncs started from a staging server, inside the firewall?",
        why="a server outside the firewall cannot start one, and the procedure asks for staging",
        remedy="start the sync on the staging server on which the content was changed",
        source="procedure, prerequisites; ektron-facts 3.5, 5",
        when="before each sync",
    ),
    Attestation(
        id="database.not-an-sql-cluster",
        question="Do all nodes use one database, or do you keep the databases of an SQL cluster alike yourself?",
        why="eSync does not synchronise all databases of an SQL database cluster",
        remedy="replicate the databases by means of SQL Server",
        source="procedure, warnings; ektron-facts 5",
    ),
    Attestation(
        id="database.server-index",
        question="Is settings.server_index unique per database, and share_index the same everywhere?",
        why="a cloned database brings its index along; syncs then fail with an invalid server index",
        remedy="give the cloned database an index of its own, after a backup",
        source="ektron-facts 2.6; 6, rows 17 and 18",
    ),
    Attestation(
        id="storage.location-unique",
        question="Does each environment on a host have an asset library folder (StorageLocation) of its own?",
        why="two environments in one folder break asset library syncs",
        remedy="give each environment its own StorageLocation",
        source="ektron-facts 6, row 20",
    ),
    Attestation(
        id="accounts.permissions",
        question="Have the application pool's and the service's accounts full control of the Ektron and site folders?",
        why="without it syncs cannot write files",
        remedy="give NETWORK SERVICE and SYSTEM full control of both folders",
        source="ektron-facts 3.5; 6, row 41",
    ),
    Attestation(
        id="min-site.login-page",
        question="Is the min site's login page renamed before the first sync of templates?",
        why="the newer page of the min site would overwrite the one on staging",
        remedy="rename login.aspx and its code-behind on the min sites",
        source="ektron-facts 6, row 44; 7",
    ),
    Attestation(
        id="search.after-failed-first-sync",
        question="If the first load-balanced sync failed: was the Search Config utility run on that server since?",
        why="search finds nothing until its catalogs are built",
        remedy="run Utilities > Search Config on the load-balanced server",
        source="procedure, note; ektron-facts 6, row 37",
    ),
)
