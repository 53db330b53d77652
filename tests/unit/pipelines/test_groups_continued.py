"""A request that continues an earlier one: the runs of both take turns together."""

import json
from pathlib import Path

from pipelines.coordinator import begin
from pipelines.run.groups import Place, in_line
from pipelines.usecases.groups import Member, start_group, start_group_by_names
from pipelines.usecases.runs import cluster_by_name
from tests.unit.pipelines.test_groups import Office, cluster
from workers.records import RunRecord


def interrupted(place: Office, at_most: int) -> RunRecord:
    """The first run of a request for two clusters, which ended before it created the second run."""
    asking = start_group(place.engine, [Member(cluster(0)), Member(cluster(1))], at_most=at_most)
    record = next(asking)
    del asking
    begin(place.engine, record.id)
    return record


def test_the_limit_counts_for_the_runs_of_both() -> None:
    """With one at a time the new runs wait for the one that is followed, and then for each other.

    So they need no place among the active runs of all groups.
    """
    place = Office(max_active=1)
    first = interrupted(place, 1)
    more = [Member(cluster(number)) for number in (1, 2)]
    rest = [one.id for one in start_group(place.engine, more, at_most=1, behind=[first])]
    for run in rest:
        begin(place.engine, run)
    assert [first.id] == [record.id for record in place.running()]
    assert in_line(place.store.active()) == {*rest}
    place.conclude(first.id)
    for run in place.begins():
        begin(place.engine, run)
    assert rest[:1] == [record.id for record in place.running()]
    assert [0, 1, 2] == [own.number for run in (first.id, *rest) if (own := Place.of(run))]


def test_a_new_run_waits_for_the_servers_of_one_that_is_followed() -> None:
    """It is not refused because of a run that the same command follows."""
    place = Office()
    first = interrupted(place, 2)
    (run,) = (one.id for one in start_group(place.engine, [Member(cluster(1, 0))], behind=[first]))
    begin(place.engine, run)
    assert place.store.run(run).verdict is None
    place.conclude(first.id)
    assert run in place.begins()
    begin(place.engine, run)
    assert [run] == [record.id for record in place.running()]


def test_runs_that_have_ended_or_were_requested_alone_are_no_group_to_continue() -> None:
    """The new runs are a group of their own."""
    place = Office()
    first = interrupted(place, 1)
    place.conclude(first.id)
    (run,) = (one.id for one in start_group(place.engine, [Member(cluster(1))], behind=[first]))
    own, other = Place.of(run), Place.of(first.id)
    assert own is not None
    assert other is not None
    assert (own.group != other.group, own.number) == (True, 0)


def test_a_message_that_is_sent_again_keeps_to_its_limit(tmp_path: Path) -> None:
    """Before, only the first of its runs was created: the worker died."""
    place = Office(clusters=tmp_path)
    for number in range(2):
        written = cluster(number).model_dump(mode="json", exclude_defaults=True)
        (tmp_path / f"shop-{number}.yaml").write_text(json.dumps(written))
    first = next(start_group(place.engine, [Member(cluster_by_name(place.engine, "shop-0"))], at_most=1, key="night"))
    again = start_group_by_names(place.engine, ["shop-0", "shop-1"], at_most=1, key="night")
    assert again["shop-0"].id == first.id
    for record in again.values():
        begin(place.engine, record.id)
    assert [first.id] == [record.id for record in place.running()]
