"""The step `sync_look`: what one server knows about syncs. Changes nothing."""

from tasks.ektron.sync.seen import SiteSeen
from tasks.ektron.wording import counted
from tasks.step import Done, Work
from tasks.syncing.look import look

__all__ = ["sync_look"]


def sync_look(work: Work) -> Done:
    """Asks the server and its site.

    Raises:
        NodeError: the server cannot be asked; a site that does not answer is a result.
    """
    work.report_phase("observing")
    return Done(message=_sentence(look(work)))


def _sentence(seen: SiteSeen) -> str:
    service = f"service {seen.service or 'not installed'}{'' if seen.listening else ', does not listen'}"
    if seen.site_problem:
        return f"{service}; {seen.site_problem}"
    profiles = sum(len(one.profiles) for one in seen.relationships)
    known = counted(profiles, "profile") if not seen.profiles_problem else "profiles not known"
    running = f"; {seen.running.name or 'a sync'} is running" if seen.running and seen.running.running else ""
    return f"{service}; the site answers, {known}{running}"
