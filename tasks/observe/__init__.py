"""Observes one node and returns facts. Reads only.

The rules judge the facts; nothing here writes to a node.
"""
