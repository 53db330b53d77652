"""One file a step: what is done to one node.

A step observes, acts on the difference and looks again. It knows no Celery and no other node.
"""
