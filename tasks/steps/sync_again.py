"""The step `sync_again`: a person has repaired what a failed sync has left; another sync may be started. No request."""

from tasks.step import Done, Work
from tasks.syncing.marks import begin_again
from tasks.syncing.options import SyncOptions

__all__ = ["sync_again"]


def sync_again(work: Work) -> Done:
    """Forgets the first sync on the server on which it was started; the other servers are only watched again."""
    if work.node.name == SyncOptions.of(work.options).node:
        begin_again(work)
    return Done(message="takes part in the second proof")
