"""The Redis or Valkey server: its address, the connection to it, and a private one for a single machine.

Nothing here knows which keys or queues live in it.
"""
