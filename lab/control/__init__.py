"""A running lab: all nodes, their certificates, and the HTTP interface that sets and clears faults.

Tests and the demo start and control a lab with this package.
"""
