"""A running lab: all its nodes, its certificates, and the HTTP interface that breaks and heals them.

Tests and the demo start and steer a lab from here.
"""
