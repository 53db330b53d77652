"""Kinds of runs: which of them only read."""

__all__ = ["LOOKING"]

#: Kinds that change nothing and need not have the cluster for themselves.
LOOKING = frozenset({"verify", "plan", "doctor"})
