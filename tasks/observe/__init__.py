"""Looks at one node and returns facts. Reads only.

Nothing here judges what it sees, and nothing here writes to a node.
"""
