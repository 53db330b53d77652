"""Questions that no program can answer: a person has to confirm them. Each has its reason."""

from tasks.ektron.facts.values import Fact

__all__ = ["Attestation", "attestations"]

_BEFORE_EACH_SYNC = "before each sync"


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
    """The questions for a cluster of this size. A pool is a load-balance cluster, with a database of its own.

    Args:
        nodes: number of nodes of the largest pool: a licence key belongs to a database.
        staging: number of nodes with role staging in the largest such pool.
        production: number of nodes with role production.
    """
    found = [*_ALWAYS, _licence(nodes)]
    if staging > 1:
        found.append(_STAGING_OUT)
    if production:
        found.append(_TEMPLATES)
    return tuple(found)


def _licence(nodes: int) -> Attestation:
    return Attestation(
        id="licence.load-balancing",
        question=f"Does the licence key of every database allow eSync (S or EN) and the load-balanced servers of "
        f"its pool (L-n), here up to {nodes}?",
        why="eSync fails when one of the keys is invalid",
        remedy=f"get keys with S or EN, and with L-n for the number of servers in the pool: at most L-{nodes} here",
        source="ektron-facts 3.5; 6, row 35",
    )


_STAGING_OUT = Attestation(
    id="staging.one-out-before-sync",
    question="Has one of the clustered staging servers been removed from the balancer before this sync is started?",
    why="the procedure requires it where staging servers are clustered",
    remedy="remove one staging server from its pool, run the sync, and add the server again",
    source="procedure, prerequisites; ektron-facts 5",
    when=_BEFORE_EACH_SYNC,
)
_TEMPLATES = Attestation(
    id="templates.staging-only",
    question="Are templates changed on staging servers only, never on production?",
    why="a sync does not copy a template from production to staging",
    remedy="make the change on the staging server, then start the sync there",
    source="procedure, warnings; ektron-facts 5",
    when=_BEFORE_EACH_SYNC,
)
_ALWAYS = (
    Attestation(
        id="balancer.sticky-sessions",
        question="Does the balancer keep each session on one server?",
        why="without sticky sessions editors are logged out at random and see half-edited content",
        remedy="enable session affinity for the virtual server of the site",
        source="ektron-facts 3.5; 6, row 34",
    ),
    Attestation(
        id="sync.initiated-from-staging",
        question="Are relationships and syncs started from a staging server, inside the firewall?",
        why="a server outside the firewall cannot start a sync, and the procedure requires a staging server",
        remedy="start the sync on the staging server on which the content was changed",
        source="procedure, prerequisites; ektron-facts 3.5, 5",
        when=_BEFORE_EACH_SYNC,
    ),
    Attestation(
        id="database.not-an-sql-cluster",
        question="Does each pool have one database, or do you replicate the databases of an SQL cluster yourself?",
        why="eSync does not synchronise all databases of an SQL database cluster",
        remedy="replicate the databases with SQL Server",
        source="procedure, warnings; ektron-facts 5",
    ),
    Attestation(
        id="database.server-index",
        question="Is settings.server_index unique in each database, and is share_index equal in all of them?",
        why="a cloned database keeps the index of the original; syncs then fail with an invalid server index",
        remedy="back up the cloned database, then give it its own index",
        source="ektron-facts 2.6; 6, rows 17 and 18",
    ),
    Attestation(
        id="storage.location-unique",
        question="Does each environment on a host have its own asset library folder (StorageLocation)?",
        why="asset library syncs fail when two environments share a folder",
        remedy="give each environment its own StorageLocation",
        source="ektron-facts 6, row 20",
    ),
    Attestation(
        id="accounts.permissions",
        question="Do the accounts of the application pool and of the service have full control of the Ektron and site "
        "folders?",
        why="without it syncs cannot write files",
        remedy="give NETWORK SERVICE and SYSTEM full control of both folders",
        source="ektron-facts 3.5; 6, row 41",
    ),
    Attestation(
        id="min-site.login-page",
        question="Is the login page of the min site renamed before the first template sync?",
        why="otherwise the newer page of the min site overwrites the page on staging",
        remedy="rename login.aspx and its code-behind file on the min sites",
        source="ektron-facts 6, row 44; 7",
    ),
    Attestation(
        id="search.after-failed-first-sync",
        question="If the first load-balanced sync failed: has the Search Config utility been run on that server since?",
        why="search returns no results until its catalogs are built",
        remedy="run Utilities > Search Config on the load-balanced server",
        source="procedure, note; ektron-facts 6, row 37",
    ),
)
