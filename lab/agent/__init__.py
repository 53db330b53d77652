"""The protocol of the agent on a simulated machine: the second implementation of docs/agent-protocol.md.

Shares no code with the first.
"""
