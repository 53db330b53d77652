"""Bundles: everything about a run in one archive, and checks of such archives.

A check needs no broker, no key and no node.
"""
