"""Bundles: everything about a run in one file, and the offline check that decides the run again from it.

Nothing here contacts a server; a check needs no broker and no key.
"""
