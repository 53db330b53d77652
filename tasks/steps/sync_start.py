"""The step `sync_start`: a sync is requested once, or a person is asked to start it; then its first sign is awaited.

A mark is kept before the request is sent. A worker that dies between the mark and the answer loses nothing and repeats
nothing: the next attempt finds the mark, and the status of the product decides whether the request was accepted. Only
where it shows no sign at all the request is sent again, and the product itself refuses a second sync.
"""

from contextlib import suppress
from dataclasses import dataclass

from tasks.ektron.sync.answers import InProgress, Profile, Started
from tasks.ektron.sync.progress import SyncState, has_begun
from tasks.ektron.sync.seen import Begun, document_name
from tasks.step import APPLYING, Done, Work
from tasks.syncing.handlers import StartedRequest, SyncSite, site_of
from tasks.syncing.look import site_place
from tasks.syncing.marks import begun_of, keep_begun, keep_end, seconds_since
from tasks.syncing.options import SyncOptions
from tasks.syncing.waits import Part
from workers.errors import NodeError, NodeRefused
from workers.records import Change, DocumentKind, now
from workers.texts import cleaned

__all__ = ["sync_start"]

_LOOKS = 4  #: for a sign of a request that a worker sent before it died
_HTTP = 0.6  #: of the deadline of a step: a request shows its first sign within seconds
_WHERE = "log in to the Workarea of {node}, at the server itself and not through the balancer, and start {what} there"


def sync_start(work: Work) -> Done:
    """Starts the sync, or asks a person to, and waits for its first sign.

    Raises:
        NodeRefused: another sync is running, there is no such profile, the site refuses, or no sync has begun in time.
        NodeError: the site does not answer.
        Cancelled: the run was cancelled while it waited.
    """
    work.report_phase("observing")
    asked, begun = SyncOptions.of(work.options), begun_of(work)
    if begun is not None and begun.begun:
        return _kept(work, begun)
    if asked.start == "gate":
        return _at_the_gate(work, asked, begun)
    return _requested(work, site_of(work, site_place(work)), asked, begun)


def _requested(work: Work, site: SyncSite, asked: SyncOptions, begun: Begun | None) -> Done:
    start = _Start(work, site)
    if begun is None:
        profile = _profile(site, asked)
        _require_free(work, site.in_progress())
        begun = Begun(
            profile=profile.id,
            name=profile.name,
            direction=profile.direction,
            sent=now(),
            before=site.status(profile.id).entries,
        )
    elif signed := start.sign_of_earlier(begun):
        return _kept(work, signed)
    else:
        begun = begun.model_copy(update={"sent": now()})
    keep_begun(work, begun)
    work.report_phase(APPLYING)
    work.note("sync.sent", f"the sync {begun.name} is requested")
    try:
        return _kept(work, start.sent(begun))
    except NodeRefused:
        keep_end(work, SyncState.FAILED)
        raise


@dataclass(frozen=True)
class _Start:
    work: Work
    site: SyncSite

    def sign_of_earlier(self, begun: Begun) -> Begun | None:
        """The start that an earlier attempt requested, where the status shows a sign of it."""
        part = Part(self.work, longest=self.work.deadline)
        for _ in range(_LOOKS):
            if how := self.sign(begun):
                return begun.model_copy(update={"begun": True, "how": how})
            part.pause(self.work.cluster.sync.every)
        return None

    def sent(self, begun: Begun) -> Begun:
        """Sends the request, and waits for its answer or a sign of the sync, whichever is first."""
        request = self.site.start(begun.profile)
        part = Part(self.work, longest=min(self.work.cluster.sync.begins, self.work.deadline * _HTTP))
        while True:
            how = self.sign(begun) or self._answered(request, begun)
            if how:
                return begun.model_copy(update={"begun": True, "how": how})
            if part.is_over:
                raise NodeRefused(
                    f"{self.site.name}: the request was sent, and no sync {begun.name} has begun within "
                    f"{seconds_since(begun.sent):.0f} s",
                    remedy="look at the status in the Workarea; esync sync status FILE",
                )
            part.pause(min(self.work.cluster.sync.every, 1.0))

    def _answered(self, request: StartedRequest[Started], begun: Begun) -> str:
        try:
            answer = request.answer()
        except NodeError:
            # A gateway may have given up, or the site may have restarted, while the sync has begun.
            if signed := self.sign_of_earlier(begun):
                return signed.how
            raise
        if answer is None:
            return ""
        if answer.accepted:
            return "the site has accepted the request"
        why = cleaned("; ".join(answer.messages), 300) or "no reason was given"
        raise NodeRefused(
            f"{self.site.name} refuses to start the sync: {why}",
            remedy="wait for the other sync, or repair what the message says; the server's event log has more",
        )

    def sign(self, begun: Begun) -> str:
        """What shows that the sync has begun; empty if nothing does."""
        running = self._running(begun)
        try:
            status = self.site.status(begun.profile)
        except NodeError:
            return "it is running" if running else ""
        return "its status shows it" if has_begun(begun.profile, begun.before, status, running) else ""

    def _running(self, begun: Begun) -> InProgress | None:
        """Our sync, if it is running."""
        with suppress(NodeError):
            found = self.site.in_progress()
            return found if found.running and found.profile in {"", begun.profile} else None
        return None


def _at_the_gate(work: Work, asked: SyncOptions, begun: Begun | None) -> Done:
    """Says once what a person has to do, and waits for the first sign in one part of the time."""
    site = site_of(work, site_place(work)) if work.cluster.site_login else None
    if begun is None:
        profile = _profile(site, asked) if site and asked.profile else None
        what = f"the sync profile {profile.name if profile else asked.profile or 'of your choice'}"
        begun = Begun(
            profile=profile.id if profile else "",
            name=profile.name if profile else asked.profile,
            direction=profile.direction if profile else "",
            sent=now(),
            before=site.status(profile.id).entries if site and profile else (),
        )
        keep_begun(work, begun)
        work.note("sync.gate", cleaned(_WHERE.format(node=work.node.name, what=what), 400))
    if site is None or not begun.profile:
        how = "a person starts it; without site_login and a profile its status cannot be followed"
        return _kept(work, begun.model_copy(update={"begun": True, "how": how}))
    return _kept(work, _first_sign(work, _Start(work, site), begun))


def _first_sign(work: Work, start: _Start, begun: Begun) -> Begun:
    part = Part(work)
    while not part.is_over:
        if how := start.sign(begun):
            # Counted from now on: how long the person took is not known.
            return begun.model_copy(update={"begun": True, "how": how, "sent": now()})
        if seconds_since(begun.sent) > work.cluster.sync.begins:
            keep_end(work, SyncState.WAITING)
            raise NodeRefused(
                f"{work.node.name}: no sync has begun within {work.cluster.sync.begins:g} s (sync.begins)",
                remedy="start the sync in the Workarea while the run waits, or set sync.begins",
            )
        part.pause(work.cluster.sync.every)
    return begun


def _profile(site: SyncSite, asked: SyncOptions) -> Profile:
    """The profile that is asked for, or the only one.

    Raises:
        NodeRefused: there is no such profile, or several and none is named.
    """
    profiles = [profile for one in site.relationships() for profile in one.profiles]
    wanted = asked.profile.casefold()
    fitting = [one for one in profiles if not wanted or wanted in {one.name.casefold(), one.id.casefold()}]
    if len(fitting) == 1:
        return fitting[0]
    known = cleaned(", ".join(one.name for one in profiles[:20]), 300) or "none"
    what = f"has no sync profile {asked.profile}" if wanted and not fitting else "has several sync profiles that fit"
    raise NodeRefused(f"{site.name} {what}; it has: {known}", remedy="name one with --profile, or as sync.profile")


def _require_free(work: Work, here: InProgress) -> None:
    """No other sync may be running: two cannot run together (ektron-facts 4.5)."""
    if here.running:
        raise NodeRefused(
            f"another sync is running on {work.node.name}: {cleaned(here.name or here.profile, 100) or 'unnamed'}",
            remedy="wait until it has ended: esync sync status FILE; where none runs in truth: docs/sync.md, row 16",
        )


def _kept(work: Work, begun: Begun) -> Done:
    keep_begun(work, begun)
    work.documents.keep(
        DocumentKind.SYNC, document_name(work.node.name, work.turn), begun.model_dump_json(exclude={"before"})
    )
    if not begun.begun:
        return Done(message="waiting for a person to start the sync")
    name = begun.name or "a sync"
    change = Change(what=f"sync {name} started" if begun.profile else "a person was asked to start a sync")
    return Done(changes=(change,), message=begun.how)
