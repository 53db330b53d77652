"""The step `install_check`: observes a node. What happens with the facts depends on the purpose.

Before a plan it gathers facts; in a wave it confirms that the plan still fits; at the end it gathers the evidence.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tasks.documents import FamilyDigests, target_of
from tasks.ektron.certificates.family import generate_family
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.node import differences, service_reason
from tasks.ektron.desired.settings import file_facts
from tasks.ektron.facts import NodeFacts
from tasks.ektron.wording import changed_parts, named
from tasks.observe.node import Look, observe
from tasks.observe.readiness import readiness
from tasks.observe.replies import cleaned_facts, understood
from tasks.step import Done, Purpose, Work
from tasks.steps.config_edit import tried
from workers.errors import AccessDenied, NodeRefused, NotEditable, Stale
from workers.records import DocumentKind
from workers.winrm.operations import writer_of

__all__ = ["differing", "install_check"]

_ANY_CERTIFICATE = "TUlJQw=="  #: as good as any other to find out whether a file can be edited
_NO_FAMILY = FamilyDigests(hashes={}, sizes={}, thumbprint="")


def install_check(work: Work) -> Done:
    """Observes the node.

    Raises:
        NodeRefused: something the other steps need is missing, or cannot be understood.
        NotEditable: a file that has to be edited cannot be.
        Stale: in a wave, the node is not as it was when the plan was made.
    """
    work.report_phase("observing")
    return _CONCLUSIONS[work.purpose](work, observe(work, probes=work.purpose is Purpose.VERIFY))


def _planned_from(work: Work, look: Look) -> Done:
    """Keeps the facts for the plan, and the family where the origin has one; refuses what no later step could use."""
    facts = look.facts
    work.documents.keep_facts(DocumentKind.OBSERVED, facts)
    work.fence.observe(lambda: writer_of(look.fence))
    if work.is_origin and work.documents.family() is None:
        family = look.family
        if family is None and work.cluster.policy.generate_certificates:
            family = generate_family(work.node.name)
        if family is not None:
            work.documents.keep_family(family)
    _require_usable(facts)
    _require_editable(work, facts, look.contents)
    return Done(message=f"service {facts.service.state}, build {facts.web.builds.get('ek_buildNumber', 'unknown')}")


def _verified(work: Work, look: Look) -> Done:
    """Keeps the evidence for the verdict."""
    work.documents.keep_facts(DocumentKind.VERIFIED, look.facts)
    return Done(message="everything was observed")


def _examined(work: Work, look: Look) -> Done:
    """Before anything is set up: keeps the facts. What is missing is reported by the rules, for all nodes at once."""
    facts = look.facts
    with understood(work.node.name):
        whole = cleaned_facts(readiness(work, facts))
    work.documents.keep_facts(DocumentKind.OBSERVED, whole)
    seen = whole.system
    system = f"PowerShell {seen.powershell} {seen.edition}, {seen.os}" if seen else "observed"
    return Done(message=f"{system}; service {facts.service.state or 'not installed'}")


def _confirmed(work: Work, look: Look) -> Done:
    """Confirms that the node is as the plan saw it."""
    facts, planned = look.facts, work.documents.planned(work.node.name)
    if planned is None or planned.fingerprint() == facts.fingerprint():
        right = _needs_nothing(work, facts)
        work.documents.keep_right(work.node.name, right=right)
        return Done(message="as planned: it needs nothing" if right else "as planned")
    raise Stale(
        f"{work.node.name} changed since the plan was made: {differing(planned, facts)}",
        remedy="find out what else changes this server, then run again",
    )


def _needs_nothing(work: Work, facts: NodeFacts) -> bool:
    """Whether a plan from these facts would be empty for the node; then no later step has to observe again."""
    family = work.documents.family_digests()
    if family is None:
        return False
    needed = differences(facts, target_of(work.cluster, work.node.name, family))
    return not needed and not service_reason(facts, needed) and facts.service.state == "running"


def differing(planned: NodeFacts, facts: NodeFacts) -> str:
    """What differs between two observations of a node, for a sentence."""
    return named(changed_parts(planned.comparable(), facts.comparable()))


def _require_editable(work: Work, facts: NodeFacts, contents: Mapping[ConfigFile, bytes]) -> None:
    """Tries the edits on what was read, so that a plan promises nothing that a rollout would refuse.

    Whether an edit is possible does not depend on the certificate. So any certificate will do while the family is not
    known, because the origin is observed at the same time. Whether an edit is needed does depend on it: then the plan
    finds the read-only files.

    Raises:
        NotEditable: a file cannot be edited, or has to be and is read-only; nothing was written anywhere.
    """
    family = work.documents.family()
    target = target_of(work.cluster, work.node.name, FamilyDigests.of(family) if family else _NO_FAMILY)
    for file, data in contents.items():
        seen = file_facts(facts, file)
        if family is None:
            seen = seen.model_copy(update={"readonly": False})
        with _foreseen():
            tried(file, seen, data, target, family.encoded_value if family else _ANY_CERTIFICATE)


@contextmanager
def _foreseen() -> Iterator[None]:
    """An edit that would be refused later makes the plan impossible now: no node is written to before all can be."""
    try:
        yield
    except (NodeRefused, AccessDenied) as error:
        raise NotEditable(error.message, file=error.file, remedy=error.remedy) from error


def _require_usable(facts: NodeFacts) -> None:
    """What every later step needs of a node, checked before anything is written anywhere."""
    node = facts.node
    if not facts.service.installed:
        raise NodeRefused(
            f"{node}: the Windows service {facts.service.name} is not installed",
            remedy="install the same version as on the other servers (procedure: min site), or correct `edition`",
        )
    copies = [facts.ews.file] if facts.ews is not None and facts.ews.file.exists else []
    for file in (facts.asset.file, facts.service_config.file, facts.web.file, *copies):
        if not file.exists:
            remedy = "install the site, or correct `site` in the cluster file"
            raise NodeRefused(f"{node}: a configuration file is missing", file=file.path, remedy=remedy)
        if file.problem:
            raise NodeRefused(
                f"{node}: the file cannot be used: {file.problem}",
                file=file.path,
                remedy="repair the file on the server, then run again",
            )


_CONCLUSIONS: Mapping[Purpose, Callable[[Work, Look], Done]] = {
    Purpose.PLAN: _planned_from,
    Purpose.CONFIRM: _confirmed,
    Purpose.VERIFY: _verified,
    Purpose.EXAMINE: _examined,
}
