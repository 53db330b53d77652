"""From YAML to a `Cluster`, with every mistake and the line it stands on.

Nothing here contacts a server, a broker or the store.
"""
