"""The step `install_check`: observes a node. What happens with the facts depends on the purpose.

Before a plan it gathers facts; in a wave it confirms that the plan still fits; at the end it gathers the evidence.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tasks.documents import NO_FAMILY, changes_of, target_of
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.node import differences, service_reason
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.facts.machine import ProbeFacts, ReadinessFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.wording import counted, differing, owed
from tasks.marks import place_of
from tasks.observe.asking import answers_to
from tasks.observe.border import cleaned_facts, understood
from tasks.observe.drained_note import mark_in
from tasks.observe.look import Look, last_look, leave_look
from tasks.observe.node import observe
from tasks.observe.probes import asked_patiently, probe_questions, probed
from tasks.observe.readiness import readiness
from tasks.step import Done, Work
from tasks.step_values import Purpose
from tasks.steps.config_edit import tried
from tasks.undo.backups import noted_anything
from workers.errors import AccessDenied, AgentFailed, NodeRefused, NotEditable, Stale
from workers.records import DocumentKind
from workers.winrm.writers import writer_of

__all__ = ["install_check"]

_SERVER_ERROR = 500  #: HTTP status, and those after it: the site itself does not work
_ANY_CERTIFICATE = "TUlJQw=="  #: as good as any other to find out whether a file can be edited


def install_check(work: Work) -> Done:
    """Observes the node.

    Raises:
        NodeRefused: something the other steps need is missing, or cannot be understood.
        NotEditable: a file that has to be edited cannot be.
        Stale: in a wave, the node is not as it was when the plan was made.
        AgentFailed: after a wave, the node is not as it has to be.
    """
    work.report_phase("observing")
    seen = work.documents.facts(DocumentKind.OBSERVED, work.node.name) if work.purpose is Purpose.COMPLETE else None
    if seen is not None:
        return _completed(work, seen)
    just_seen = last_look(work) if work.purpose is Purpose.CONFIRM else None
    probes = work.purpose in {Purpose.VERIFY, Purpose.COMPLETE, Purpose.PROVE}
    return _CONCLUSIONS[work.purpose](work, just_seen or observe(work, probes=probes))


def _planned_from(work: Work, look: Look) -> Done:
    """As `_looked`; refuses what no later step could use."""
    done = _looked(work, look)
    _require_usable(look.facts)
    if work.purpose is not Purpose.PLAN_AND_VERIFY or not _complete(work, look):
        _prepared(work, look)
    return done


def _looked(work: Work, look: Look) -> Done:
    """Keeps the facts, and the family where the origin has one."""
    facts = look.facts
    work.documents.keep_facts(DocumentKind.OBSERVED, facts)
    if work.is_origin and work.documents.family() is None:
        family = look.family
        if family is None and work.cluster.policy.generate_certificates:
            from tasks.ektron.certificates.making import generate_family  # noqa: PLC0415 - seldom, and loads much

            family = generate_family(work.node.name)
        if family is not None:
            work.documents.keep_family(family)
    _keep_left_out(work, look)
    return Done(message=f"service {facts.service.state}, build {facts.web.builds.get('ek_buildNumber', 'unknown')}")


def _keep_left_out(work: Work, look: Look) -> None:
    """Keeps for the run that an earlier one has left the node out of its balancer, also where the store lost its mark.

    The step that puts it back looks again.
    """
    place = place_of(work.cluster.name, work.cluster.server(work.node.name))
    mark = mark_in(look.drained, place) if look.drained is not None else None
    if mark is not None and mark.run not in work.documents.going_on():
        work.documents.keep_left(work.node.name, str(mark))


def _prepared(work: Work, look: Look) -> None:
    """What the steps of a wave will need: the edits are possible, the run has its number, the look is left for them."""
    _require_editable(work, look.facts, look.contents)
    work.fence.observe(lambda: writer_of(look.fence, work.node.name))
    if work.purpose is Purpose.PLAN_AND_VERIFY:
        leave_look(work, look)


def _complete(work: Work, look: Look) -> bool:
    """Whether the node needs nothing; then the network is tested too, which is all that the verdict needs besides."""
    facts = look.facts
    if work.documents.family_digests() is None or not _needs_nothing(work, facts):
        return False
    if not facts.probes.tested:
        work.documents.keep_facts(DocumentKind.OBSERVED, _with_probes(work, facts))
    return True


def _verified(work: Work, look: Look) -> Done:
    """Keeps the evidence for the verdict."""
    work.documents.keep_facts(DocumentKind.VERIFIED, look.facts)
    return Done(message="everything was observed")


def _completed(work: Work, seen: NodeFacts) -> Done:
    """Keeps what was observed before the plan, with the tests of the network: nothing was written anywhere since."""
    whole = seen if seen.probes.tested else _with_probes(work, seen)
    work.documents.keep_facts(DocumentKind.VERIFIED, whole)
    return Done(message="as observed before the plan, which is empty; the network was tested")


def _with_probes(work: Work, seen: NodeFacts) -> NodeFacts:
    answers = answers_to(work, probe_questions(work, seen.web))
    with understood(work.node.name):
        return seen.model_copy(update={"probes": cleaned_facts(probed(work, seen.web, answers))})


def _examined(work: Work, look: Look) -> Done:
    """Before anything is set up: keeps the facts. What is missing is reported by the rules, for all nodes at once."""
    facts = look.facts
    with understood(work.node.name):
        whole = readiness(work, facts)
        whole = cleaned_facts(whole.model_copy(update={"readiness": _with_edits_tried(work, look, whole.readiness)}))
    work.documents.keep_facts(DocumentKind.OBSERVED, whole)
    seen = whole.system
    system = f"PowerShell {seen.powershell} {seen.edition}, {seen.os}" if seen else "observed"
    return Done(message=f"{system}; service {facts.service.state or 'not installed'}")


def _with_edits_tried(work: Work, look: Look, seen: ReadinessFacts | None) -> ReadinessFacts:
    """What a rollout would try before it writes anything, so that doctor calls no node ready that it would refuse."""
    found = seen or ReadinessFacts()
    try:
        _require_editable(work, look.facts, look.contents, also_readonly=True)
    except NotEditable as error:
        why = f"{error.file}: {error.message.removeprefix(f'{work.node.name}: ')}"
        return found.model_copy(update={"not_editable": why, "not_editable_remedy": error.remedy})
    return found


def _confirmed(work: Work, look: Look) -> Done:
    """Confirms that the node is as the plan saw it."""
    facts, planned = look.facts, work.documents.planned(work.node.name)
    if planned is None or planned == facts or planned.fingerprint() == facts.fingerprint():
        right = _needs_nothing(work, facts)
        work.documents.keep_right(work.node.name, right=right)
        leave_look(work, look)
        return Done(message="as planned: it needs nothing" if right else "as planned")
    if noted_anything(work):  # this run has changed it; the store has lost the outcomes
        return _again(work, look)
    raise Stale(
        f"{work.node.name} changed since the plan was made: {differing(planned, facts)}",
        remedy="find out what else changes this server, then run again",
    )


def _again(work: Work, look: Look) -> Done:
    """After an attempt that failed the node may be anywhere between what it was and what it has to be."""
    _require_usable(look.facts)
    _require_editable(work, look.facts, look.contents)
    lacks = _lacks(work, look.facts)
    work.documents.keep_right(work.node.name, right=not lacks)
    return Done(message=f"again: {lacks}" if lacks else "again: it needs nothing any more")


def _proved(work: Work, look: Look) -> Done:
    """After its wave a node needs nothing more, and service and site work."""
    if lacks := _lacks(work, look.facts):
        raise AgentFailed(
            f"{work.node.name} was changed and is not as it has to be: {lacks}",
            remedy="find out what else changes this server or stops its service, then retry",
        )
    if broken := _broken(work, look.facts):
        raise AgentFailed(
            f"{work.node.name} was changed, and now {broken}",
            remedy="repair the server, then retry; esync rollback puts its files back",
        )
    return Done(message="as it has to be")


def _broken(work: Work, facts: NodeFacts) -> str:
    """What does not work on a node now, unless it is known that it did not before the run; empty when all works.

    A site that answers with an error of its address (404, a redirect) is for the verdict: no change causes that. So is
    a site without an answer that was not asked before the run: many a server does not reach its own site by name.
    """
    before = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    known = before.probes if before else ProbeFacts()
    if facts.probes.listening_8732 is False and known.listening_8732 is not False:
        return f"no program listens on port {SYNC_PORT}"
    if known.ws_status is not None and _is_down(known):
        return ""
    if known.ws_status is None:
        return _error_of(facts.probes)
    site = asked_patiently(work, facts.probes)
    return _error_of(site) if site.ws_status else f"{site.ws_url} does not answer"


def _is_down(site: ProbeFacts) -> bool:
    return not site.ws_status or site.ws_status >= _SERVER_ERROR


def _error_of(site: ProbeFacts) -> str:
    return f"{site.ws_url} returns HTTP {site.ws_status}" if site.ws_status and _is_down(site) else ""


def _needs_nothing(work: Work, facts: NodeFacts) -> bool:
    """Whether a plan from these facts would be empty for the node; then no later step has to observe again."""
    return not _lacks(work, facts)


def _lacks(work: Work, facts: NodeFacts) -> str:
    """The first thing that a plan from these facts would do, for people; empty when there is none."""
    family = NO_FAMILY if work.retires else work.documents.family_digests()
    if family is None:
        return "the run has no certificate family"
    needed = differences(facts, target_of(work.cluster, work.node.name, family, work.options))
    first = next(iter(changes_of(needed)), None)
    if first is not None:
        return f"{counted(len(needed), 'change')} missing, the first is {first.what} in {first.file}"
    if why := service_reason(facts, needed, retired=work.retires):
        return owed(why)
    fits = {"running", "stopped"} if work.retires else {"running"}
    return "" if facts.service.state in fits else f"the service is {facts.service.state}"


def _require_editable(
    work: Work, facts: NodeFacts, contents: Mapping[ConfigFile, Content], *, also_readonly: bool = False
) -> None:
    """Tries the edits on what was read, so that a plan promises nothing that a rollout would refuse.

    Whether an edit is possible does not depend on the certificate. So any certificate will do while the family is not
    known, because the origin is observed at the same time. Whether an edit is needed does depend on it: then the plan
    finds the read-only files.

    Args:
        work: the node.
        facts: of it.
        contents: its files.
        also_readonly: whether files with the read-only attribute pass: a rule of doctor is about those.

    Raises:
        NotEditable: a file cannot be edited, or has to be and is read-only; nothing was written anywhere.
    """
    family = None if work.retires else work.documents.family()
    target = work.target(family)
    certificate = family.encoded_value if family else "" if work.retires else _ANY_CERTIFICATE
    readonly_passes = also_readonly or (family is None and not work.retires)
    for file, content in contents.items():
        with _foreseen():
            tried(file, facts, content, target, certificate, may_be_readonly=readonly_passes)


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
        build = facts.web.builds.get("ek_buildNumber")
        site = f"; the site is of build {build}: has an upgrade of this server begun?" if build else ""
        raise NodeRefused(
            f"{node}: the Windows service {facts.service.name} is not installed{site}",
            remedy="install the same version as on the other servers (procedure: min site), or correct `edition`",
        )
    copies = [facts.ews.file] if facts.ews is not None and facts.ews.file.exists else []
    for file in (facts.asset.file, facts.service_config.file, facts.web.file, *copies):
        if not file.exists:
            remedy = "install the site, or correct `site` in the cluster file"
            raise NodeRefused(f"{node}: {file.path} is missing", file=file.path, remedy=remedy)
        if file.problem:
            raise NodeRefused(
                f"{node}: {file.path} cannot be used: {file.problem}",
                file=file.path,
                remedy=file.remedy or "repair the file on the server, then run again",
            )


_CONCLUSIONS: Mapping[Purpose, Callable[[Work, Look], Done]] = {
    Purpose.LOOK: _looked,
    Purpose.PLAN: _planned_from,
    Purpose.PLAN_AND_VERIFY: _planned_from,
    Purpose.CONFIRM: _confirmed,
    Purpose.AGAIN: _again,
    Purpose.PROVE: _proved,
    Purpose.VERIFY: _verified,
    Purpose.COMPLETE: _verified,
    Purpose.EXAMINE: _examined,
}
