"""Reads a cluster file (YAML) into a `Cluster`, and reports every mistake with its line.

Nothing here contacts a server, a broker or the store.
"""
