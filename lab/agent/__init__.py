"""The agent's protocol on a simulated machine: the second implementation of docs/agent-protocol.md.

Shares no code with the first one.
"""
