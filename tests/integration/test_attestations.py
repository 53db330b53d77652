"""Questions that only a person can answer are asked until a person confirms the answer, and when it expires."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.report.build import build
from pipelines.report.closing import closing_lines
from pipelines.report.html import to_html
from pipelines.report.rows import Report
from pipelines.report.text import to_text
from pipelines.usecases.attest import LONGEST, attest, listed, scope_of, withdraw
from pipelines.usecases.runs import RunSummary
from tasks.ektron.rules.confirmations import Confirmation
from tests.integration.one_process import Esync, families_known
from tests.integration.test_renewal import a_cluster
from workers.errors import InputRefused
from workers.records import DocumentKind, Verdict, now
from workers.store.kept import attested

STICKY = "balancer.sticky-sessions"
SAME = "database.same-connection-string"


@pytest.fixture
def esync() -> Iterator[Esync]:
    """A joined cluster."""
    with families_known():
        made = Esync(a_cluster())
        assert made.rollout().record.verdict is Verdict.JOINED
        yield made
        made.close()


def confirmed(esync: Esync, rule: str = STICKY, days: int = 30) -> Confirmation:
    """A person confirms it."""
    until = now().date() + timedelta(days=days)
    return attest(esync.engine, esync.cluster, rule, by="M. Keller", until=until, note="seen in the balancer")


def checked(esync: Esync) -> tuple[RunSummary, Report]:
    """A run that only verifies; its bundle is valid."""
    known = esync.rollout(kind="verify")
    check(bundle_of(esync.store, known))
    return known, build(known)


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def asked(report: Report) -> set[str]:
    """The questions without an answer."""
    return {one.id for one in report.attestations if not one.answered}


def test_an_answered_question_is_not_asked_again_and_names_the_person(esync: Esync) -> None:
    """In the closing screen, in the text, in the JSON and in the bundle; withdrawn, it is asked again."""
    _, before = checked(esync)
    assert STICKY in asked(before)
    answer = confirmed(esync)
    known, report = checked(esync)
    assert asked(before) - {STICKY} == asked(report)
    assert "confirmed by M. Keller until" in words(to_text(report))
    assert "confirmed by M. Keller until" in words(to_html(report))
    assert f"1 question answered by a person, the first until {answer.until}" in words(
        "\n".join(closing_lines(report, 200))
    )
    assert b"M. Keller" in bundle_of(esync.store, known)["attested.json"]
    withdraw(esync.engine, esync.cluster, STICKY)
    assert asked(before) == asked(checked(esync)[1])
    assert asked(report) == asked(build(known)), "a report shows what was confirmed when its run was requested"


def test_an_answer_that_has_expired_is_asked_again(esync: Esync) -> None:
    """And the report says who confirmed it until when."""
    old = confirmed(esync).model_copy(update={"until": now().date() - timedelta(days=1)})
    esync.store.keep(attested(scope_of(esync.cluster)), STICKY, old.model_dump_json())
    _, report = checked(esync)
    assert STICKY in asked(report)
    assert f"an earlier answer does not count any more: confirmed by M. Keller until {old.until}" in words(
        to_text(report)
    )


def test_a_statement_that_the_facts_leave_unknown_can_be_confirmed(esync: Esync) -> None:
    """An encrypted section on all servers: inconclusive, until a person has compared the connection strings."""
    for machine in esync.servers.values():
        path = machine.product.site.child("web.config")
        text = machine.disk.read(path).decode("utf-8-sig")
        begin, end = text.index("<connectionStrings"), text.index("</connectionStrings>")
        cipher = f"<CipherData><CipherValue>of {machine.name}</CipherValue></CipherData>"
        hidden = f'<connectionStrings configProtectionProvider="Rsa"><EncryptedData>{cipher}</EncryptedData>'
        machine.disk.put(path, (text[:begin] + hidden + text[end:]).encode("utf-8-sig"))
    assert Verdict.INCONCLUSIVE is checked(esync)[0].record.verdict
    confirmed(esync, SAME)
    known, report = checked(esync)
    assert Verdict.JOINED is known.record.verdict, known.record.summary
    assert f"confirmed by a person: {SAME}" in known.record.summary
    assert "confirmed by M. Keller until" in words(to_text(report))
    assert "confirmed by M. Keller until" in words(to_html(report))


def test_the_servers_belong_to_the_question(esync: Esync) -> None:
    """With another server in the file no question is answered yet."""
    confirmed(esync)
    smaller = esync.cluster.model_copy(update={"nodes": esync.cluster.nodes[:2]})
    assert not any(one.counts for one in listed(esync.engine, smaller)[0])
    assert any(one.counts for one in listed(esync.engine, esync.cluster)[0])


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"rule": "balancer.sticky"}, "there is no rule 'balancer.sticky'", "did you mean balancer.sticky-sessions?"),
        ({"rule": "databse.server-index"}, "there is no rule", "did you mean database.server-index"),
        ({"rule": "\x1b[31m"}, "there is no rule", "esync attest FILE"),
        ({"days": -1}, "is past", "give a day from"),
        ({"days": LONGEST.days + 1}, "is too far away", "give a day from"),
        ({"by": " "}, "the name is empty", "1 to 80 characters"),
        ({"note": "x" * 501}, "the note is too long", "1 to 500 characters"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(
    esync: Esync, changes: dict[str, object], message: str, remedy: str
) -> None:
    """With what is allowed; nothing is recorded."""
    given = {"rule": STICKY, "days": 3, "by": "mk", "note": "n"} | changes
    until = now().date() + timedelta(days=int(str(given["days"])))
    with pytest.raises(InputRefused, match=message) as refused:
        attest(
            esync.engine, esync.cluster, str(given["rule"]), by=str(given["by"]), until=until, note=str(given["note"])
        )
    assert remedy in refused.value.remedy
    assert "\x1b" not in f"{refused.value} {refused.value.remedy}"
    assert {} == esync.store.all_kept(attested(scope_of(esync.cluster)))
    with pytest.raises(InputRefused, match="there is no answer"):
        withdraw(esync.engine, esync.cluster, STICKY)


def test_a_text_of_another_form_in_the_store_is_no_answer(esync: Esync) -> None:
    """Of another version, or recorded under another rule."""
    answer = confirmed(esync)
    esync.store.keep(attested(scope_of(esync.cluster)), STICKY, '{"rule": 1}')
    esync.store.keep(attested(scope_of(esync.cluster)), "licence.load-balancing", answer.model_dump_json())
    known, report = checked(esync)
    assert not any(one.answered for one in report.attestations)
    assert known.record.verdict is Verdict.JOINED
    assert {} == esync.store.documents(known.record.id, DocumentKind.ATTESTED)
