"""Tests the network from one node: the sync port here and on the neighbours, and the site at the address in WSPath."""

from collections.abc import Mapping

from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.facts.configuration import WebFacts
from tasks.ektron.facts.machine import ProbeFacts
from tasks.ektron.rules.service import REACH
from tasks.ektron.wspath import host_of, page_of_no_site, places_to_ask
from tasks.step import Work
from tasks.step_values import Purpose
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["asked_patiently", "listens", "own_port", "probe_questions", "probed"]

_OK = 200
_TELLING = (_OK, 401, 403)  #: the site answers: with another status, another address is tried too
_ADDRESSES = 32  #: of one name that are kept
_FIRST_PAGE = 60.0  #: seconds in which a site answers that has to compile its pages first
_SOON = 3  #: seconds for an address that is asked only to compare
_NO_PAGE = "a page that no site has"
_SITE, _NAME, _OWN, _LISTENING = "site answers", "site's host", "own addresses", "listening"


def probe_questions(work: Work, web: WebFacts | None) -> dict[str, Op]:
    """What is asked of the node, by name.

    Args:
        work: the node.
        web: web.config, as it was seen earlier; None when it is not known yet.
    """
    questions = {f"reach {name}": ops.tcp(host, SYNC_PORT, timeout=3) for name, host in _neighbours(work).items()}
    questions |= {_LISTENING: own_port(work), _OWN: ops.resolve("", timeout=3)}
    return questions | (_site_questions(web) if web else {})


def probed(work: Work, web: WebFacts, answers: Mapping[str, Reply]) -> ProbeFacts:
    """The facts in the answers. Where the site is asked has to be asked again if web.config says something new.

    Raises:
        EsyncError: the session broke.
    """
    answers = {**answers, **_asked_again(work, web, answers)}
    reached = _reached(work, {name: answers[f"reach {name}"] for name in _neighbours(work)})
    own = answers[_OWN]
    site, named = ProbeFacts(), None
    if _places(web):  # none if it cannot be read now; what was asked where it was before says nothing
        site, named = _site(work, web, answers[_SITE], answers[_NO_PAGE]), answers[_NAME]
    return site.model_copy(
        update={
            "listening_8732": listens(work, answers[_LISTENING]),
            "reach_8732": reached,
            "own_addresses": _addresses(own),
            "ws_addresses": None if named is None else _addresses(named),
        }
    )


def asked_patiently(work: Work, seen: ProbeFacts) -> ProbeFacts:
    """The same, with the answer of a site that has not answered in time: after a change it may have to start first.

    Raises:
        EsyncError: the session broke.
    """
    if seen.ws_status != 0:
        return seen
    replies = _ask(work, {_SITE: ops.http(seen.ws_url, timeout=_FIRST_PAGE)})
    status = _status(replies[_SITE])
    return seen.model_copy(update={"ws_status": status, "ws_problem": "" if status else seen.ws_problem})


def _neighbours(work: Work) -> dict[str, str]:
    if work.purpose is Purpose.PROVE:
        return {}  # they may not have had their wave yet
    names = list(work.cluster.node_names)
    here = names.index(work.node.name)
    following = (names[here + 1 :] + names[:here])[:REACH]  # in the order of the cluster file, cyclically
    return {name: work.cluster.sync_host(name) for name in following}


def own_port(work: Work) -> Op:
    """Asks whether a node listens on the sync port."""
    return ops.tcp(work.cluster.sync_host(work.node.name), SYNC_PORT, timeout=3)


def listens(work: Work, reply: Reply) -> bool:
    """Whether it does, by the reply to `own_port`. Its host may be an address that leads only others to it: then again.

    Raises:
        EsyncError: the session broke.
    """
    return _is_open(reply) or _is_open(*_ask(work, {_LISTENING: ops.tcp("localhost", SYNC_PORT, timeout=3)}).values())


def _reached(work: Work, replies: Mapping[str, Reply]) -> dict[str, bool]:
    """Which neighbours were reached: under the host in the cluster file, or under their own names.

    The host may be for esync only: a public address, or one in a network for management. The others are asked again
    only if the first one is reached so; most often those that do not answer are down.
    """
    reached = {name: _is_open(reply) for name, reply in replies.items()}
    closed = [name for name, is_open in reached.items() if not is_open and work.cluster.sync_host(name) != name]
    for names in (closed[:1], closed[1:]):
        again = _ask(work, {name: ops.tcp(name, SYNC_PORT, timeout=3) for name in names})
        reached |= {name: _is_open(reply) for name, reply in again.items()}
        if not any(reached[name] for name in closed[:1]):
            break
    return reached


def _is_open(reply: Reply) -> bool:
    return bool(reply.ok and reply["reachable"])


def _places(web: WebFacts) -> tuple[str, ...]:
    return places_to_ask(web.ws_path, web.site_path, offloaded=web.offloaded)


def _site_questions(web: WebFacts) -> dict[str, Op]:
    places = _places(web)
    if not places:
        return {}
    no_page = ops.http(page_of_no_site(places[0]), timeout=_SOON, limit=0)
    return {
        _SITE: ops.http(places[0], timeout=10),
        _NO_PAGE: no_page,
        _NAME: ops.resolve(host_of(web.ws_path), timeout=5),
    }


def _asked_again(work: Work, web: WebFacts, answers: Mapping[str, Reply]) -> dict[str, Reply]:
    """The questions about the site that have not been asked, or were asked about another address."""
    open_ones = {n: op for n, op in _site_questions(web).items() if n not in answers or answers[n].op != op}
    return _ask(work, open_ones)


def _ask(work: Work, questions: Mapping[str, Op]) -> dict[str, Reply]:
    if not questions:
        return {}
    replies = work.session.ask(list(questions.values()), deadline=work.deadline, keep_going=True)
    return dict(zip(questions, replies, strict=True))


def _site(work: Work, web: WebFacts, first: Reply, no_page: Reply) -> ProbeFacts:
    """The best answer: other places are asked only where the first one says nothing about the site."""
    places = _places(web)
    replies = {places[0]: first}
    if _status(first) not in _TELLING:
        replies |= _ask(work, {place: ops.http(place, timeout=10) for place in places[1:]})
    best = next((place for place, reply in replies.items() if _status(reply) == _OK), places[0])
    reply = replies[best]
    return ProbeFacts(
        ws_url=best,
        ws_status=_status(reply),
        ws_problem="" if reply.ok else reply.message,
        ws_catch_all=_status(no_page) == _status(reply) == _OK and not _is_described(reply),
    )


def _is_described(reply: Reply) -> bool:
    """Whether the answer is the page with which ASP.NET describes a web service: it has links to the operations."""
    page = ops.data_of(reply, "body").lower()
    return b"?wsdl" in page or b"?op=" in page


def _status(reply: Reply) -> int:
    return int(reply["status"]) if reply.ok else 0


def _addresses(reply: Reply) -> tuple[str, ...]:
    return tuple(str(one) for one in reply["addresses"][:_ADDRESSES]) if reply.ok else ()
