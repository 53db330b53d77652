"""Loaded last by the process that `tests/warm.py` forks programs from: what it has loaded stays in memory as it is."""

import gc

gc.collect()
gc.freeze()
