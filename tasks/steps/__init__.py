"""One file a step: what is done to one node.

A step observes, acts on the difference and observes again. It knows neither Celery nor other nodes.
"""
