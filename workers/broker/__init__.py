"""Celery messages over Redis that outlive a restart of the broker and a message that cannot be read.

Only `workers.celery_app` builds on this; nothing here knows runs or nodes.
"""
