"""Faults at random moments of runs, each run judged by what it leaves on the servers; `python -m tests.chaos`."""
