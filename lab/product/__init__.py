"""The simulated product on a machine: its files, its service, its certificate family.

Written from ektron-facts, independently of the code under test.
"""
