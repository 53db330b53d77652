"""What an outcome calls the changes in a file that a rollback would not restore. Reports recognise them by it."""

__all__ = ["CHANGED_SINCE", "OWN_CHANGE"]

CHANGED_SINCE = "changed since the run"  #: a change that was not made by the run
OWN_CHANGE = "made by the run"  #: a change of the run itself in such a file
