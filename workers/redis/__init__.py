"""The Redis or Valkey server: its address, the connection to it, and an embedded one for a single machine.

Nothing here knows which keys or queues it contains.
"""
