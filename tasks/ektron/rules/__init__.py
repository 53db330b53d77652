"""Invariants: what must hold for a cluster to be joined, and the findings about it.

Facts in, findings out. A new rule goes into the file of its subject and into `invariants.py`.
"""
