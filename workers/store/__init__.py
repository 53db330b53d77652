"""The run store: what every process knows of a run. `port` is the interface; `memory` and `redis_store` implement it.

Nothing here knows Celery or a node's session. Import the port where a store is used, an adapter only where it is made.
"""
