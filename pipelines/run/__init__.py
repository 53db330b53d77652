"""Decisions about a run, as pure functions: snapshot, plan, what comes next, verdict, state of the nodes.

Nothing here knows Celery, the terminal or HTML, and nothing here writes to the store.
"""
