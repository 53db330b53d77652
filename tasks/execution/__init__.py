"""Runs one step on one node: lease, logon, time budget, and exceptions turned into outcomes.

Knows that steps exist, not what they do.
"""
