"""No crash loses a restart: after any death between edit and restart the service starts once, and the reason is given.

The tests judge the machine: when its service started, how often since the last change, and what it loaded.
test_restart_owed_for_real.py does the same over a real network with real workers. `make test` plays half of the
points of one case and a few points of the others, chosen by the seed; `make exhaustive` plays all points of all cases.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import pytest

from tests.integration.harness import steps_of
from tests.integration.one_process import Esync, families_known
from tests.integration.restart_deaths import (
    BEGINNINGS,
    DEPENDENT,
    SITE,
    Boundaries,
    Healing,
    a_later_run,
    a_retry,
    agent_dies,
    begun,
    dependents_run,
    esync_of,
    first_run,
    histories,
    judged,
    learnt,
    machine_dies,
    resumed,
    told,
    worker_dies,
)
from tests.integration.simulated_servers import Action
from tests.sampling import rotated
from workers.records import Status, Verdict

ONE_TRY = {"unreachable": 1, "backoff": 0}
NEW_TRY = {"unreachable": 3, "backoff": 0}
OURS = r"C:\ProgramData\esync-rollout"


@dataclass(frozen=True)
class Way:
    """What dies, at which points, and how it recovers: these ways in turn, with that many attempts."""

    dies: Callable[[Esync, str, int], Callable[[], int]]
    boundaries: Callable[[Boundaries], Sequence[int]]
    healing: Sequence[tuple[Healing, dict[str, int]]]


WAYS = {
    "worker": Way(worker_dies, lambda b: b.moments, [(resumed, NEW_TRY), (a_later_run, NEW_TRY), (a_retry, NEW_TRY)]),
    "machine": Way(machine_dies, lambda b: b.actions, [(resumed, NEW_TRY), (a_later_run, ONE_TRY), (a_retry, ONE_TRY)]),
    "agent": Way(agent_dies, lambda b: b.operations, [(a_later_run, ONE_TRY), (a_retry, ONE_TRY)]),
}

#: The state before, the edition, what dies, and the minimum number of points on both nodes together.
CASES = [
    ("untouched", "8.0", "worker", 16),
    ("untouched", "8.0", "machine", 110),
    ("untouched", "8.0", "agent", 30),
    ("stopped", "8.5", "worker", 16),
    ("certificate gone", "8.5", "worker", 10),
    ("certificate gone", "8.5", "machine", 12),
    ("flag reset", "8.0", "worker", 16),
    ("flag reset", "8.0", "machine", 16),
    ("only owed", "8.5", "worker", 10),
    ("only owed", "8.5", "machine", 8),
]
EVERY = 5  #: one point in that many is played


def chosen(case: int, boundaries: int) -> range:
    """The points of a case that are played; a fifth of them still meets every way of recovery."""
    return rotated(boundaries, EVERY, f"restart owed {case}")


def part(cases: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    """Every third one of them."""
    known = list(cases)
    return [known[number] for number in rotated(len(known), 3, "restart owed")]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_a_death_at_every_boundary(case: int, record_property: Callable[[str, object], None]) -> None:
    """After a death at each point: recovered, started once since the last change, with a reason; then nothing to do."""
    beginning, edition, who, least = CASES[case]
    way = WAYS[who]
    with esync_of(edition) as esync:
        BEGINNINGS[beginning](esync)
        known = {node: way.boundaries(found) for node, found in learnt(esync).items()}
    count = sum(map(len, known.values()))
    record_property("boundaries", count)
    assert count >= least
    played = 0
    for place in chosen(case, max(map(len, known.values()))):
        numbers = {node: numbers[place] for node, numbers in known.items() if place < len(numbers)}
        heal, retries = way.healing[place % len(way.healing)]
        with esync_of(edition, retries=retries) as esync:
            BEGINNINGS[beginning](esync)
            begun(esync)
            healed_once(esync, way, numbers, heal)
            nothing_more(esync)
        played += len(numbers)
    print(f"restart owed: {played} of {count} boundaries, {beginning}, {edition}, the {who} dies")  # noqa: T201 - asked for


def healed_once(esync: Esync, way: Way, numbers: dict[str, int], heal: Healing) -> None:
    """After a death on each of these nodes the recovery starts each service once, or finds it started."""
    died = {node: way.dies(esync, node, number) for node, number in numbers.items()}
    first = first_run(esync, numbers)
    over = time.time_ns()
    healed = heal(esync, first.id)
    assert healed.record.verdict is Verdict.JOINED, healed.record.summary
    for node, server in esync.servers.items():
        started = judged(server, esync.cluster)
        if node in died and (steps := steps_of(healed, node)):
            told(steps["service_restart"], started, died[node]() or over)


def nothing_more(esync: Esync) -> None:
    """Another run restarts nothing and changes nothing."""
    begun(esync)
    before = histories(esync)
    assert esync.rollout().record.verdict is Verdict.JOINED
    assert (before, {}) == (histories(esync), {n: s.journal for n, s in esync.servers.items() if s.journal})


@pytest.mark.parametrize(("what", "looks"), part(product(("stop", "stop asked", "start", "start asked"), (0, 2, 3, 5))))
def test_a_death_while_the_service_is_pending(what: str, looks: int) -> None:
    """PowerShell dies before or after its request to stop or start a slow service: the service still starts once.

    So many looks see it pending: none, those of the recovery, or only its first ones. A start that the recovery only
    saw gets its record from the recovery or from the next run.
    """
    with esync_of("8.0", retries=ONE_TRY) as esync:
        BEGINNINGS["only owed"](esync)
        begun(esync)
        service = esync.servers["S2"].service
        service.pending_looks = looks
        healed_once(esync, dying_before("S2", Action(what, service.name)), {"S2": 0}, a_retry)
        only_noted(esync)
        nothing_more(esync)


def only_noted(esync: Esync) -> None:
    """Another run restarts nothing; if it writes, then only the record of a start that this program did not make."""
    begun(esync)
    before = histories(esync)
    assert esync.rollout().record.verdict is Verdict.JOINED
    assert before == histories(esync)
    written = {action.target for server in esync.servers.values() for action in server.journal}
    assert written <= {rf"{OURS}\fence", rf"{OURS}\service-start"}, written


def dying_before(node: str, action: Action) -> Way:
    """PowerShell dies before that action of the node."""

    def dies(esync: Esync, _node: str, _number: int) -> Callable[[], int]:
        return machine_dies(esync, node, action)

    return Way(dies, lambda _: (), [])


BETWEEN = [
    *(Action(what, DEPENDENT) for what in ("stop", "stop asked")),
    *(Action(what, "EktronWindowsServices30") for what in ("stop", "stop asked", "start", "start asked")),
    *(Action(what, DEPENDENT) for what in ("start", "start asked")),
]


@pytest.mark.parametrize(
    ("heal", "action"), part(product((resumed, a_retry), BETWEEN)), ids=lambda one: getattr(one, "__name__", str(one))
)
def test_a_death_between_a_service_and_those_that_depend_on_it(action: Action, heal: Healing) -> None:
    """Dependent services that a run stopped are running at the end, wherever PowerShell died between stop and start."""
    with esync_of("8.0", retries=NEW_TRY if heal is resumed else ONE_TRY) as esync:
        dependents_run(esync)
        BEGINNINGS["only owed"](esync)
        begun(esync)
        healed_once(esync, dying_before("S2", action), {"S2": 0}, heal)
        assert {"running"} == {service.state().value for service in esync.servers["S2"].services}
        nothing_more(esync)


def test_a_recycle_is_not_lost_either() -> None:
    """The site reads its asset configuration when web.config changes: that is always the last change."""
    with esync_of("8.0", retries=ONE_TRY) as esync:
        BEGINNINGS["flag reset"](esync)
        begun(esync)
        healed_once(esync, dying_before("S2", Action("touch", rf"{SITE}\web.config")), {"S2": 0}, a_retry)
        server = esync.servers["S2"]
        asset, web = (server.disk.stat(server.product.site.child(n)) for n in ("AssetManagement.config", "web.config"))
        assert asset is not None
        assert web is not None
        assert asset.mtime < web.mtime


def test_a_start_that_never_listened_does_not_count() -> None:
    """A service that started without listening owes a restart again: the next run starts it once more, and it joins."""
    with esync_of("8.0", retries=ONE_TRY, deadlines={"service": 1, "settle": 0}) as esync:
        BEGINNINGS["only owed"](esync)
        server = esync.servers["S2"]
        needed = server.product.service_folder.child("sitedb.config")
        content = server.disk.read(needed)
        server.disk.remove(needed)
        failed = steps_of(esync.rollout(), "S2")["service_restart"]
        assert failed.status is Status.FAILED
        assert "nothing listens on port 8732" in failed.message
        starts = len(server.service.history)
        server.disk.put(needed, content)  # the service does not read this file's time: the evidence is ours alone
        planned = esync.rollout(kind="plan").plan
        assert planned is not None
        owing = [part.node for part in planned.nodes if part.restart.startswith("restart owed: ")]
        assert owing == ["S2"]
        healed = esync.rollout()
        assert healed.record.verdict is Verdict.JOINED, healed.record.summary
        assert len(server.service.history) > starts
        begun(esync)
        nothing_more(esync)
