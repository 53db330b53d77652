"""Balancers: take a server out of its pool and put it back. One port, one file for each kind of balancer.

Nothing here decides when that is right: `tasks.steps.drain` and `tasks.steps.undrain` do.
"""
