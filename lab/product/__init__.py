"""The simulated product on a machine: its files, its service, its certificate family.

Written from the facts, not from the code under test.
"""
