"""Reads a cluster file (YAML) into a `Cluster`, and reports every mistake with its line; writes new cluster files.

Nothing here contacts a server, a broker or the store.
"""
