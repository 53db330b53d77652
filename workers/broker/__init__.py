"""Celery messages over Redis: a worker survives a restart of the broker, and messages that it cannot read.

Only `workers.celery_app` uses this, and the tasks of the steps to note a failure; nothing here knows runs or nodes.
"""
