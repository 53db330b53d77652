"""A sync on one node: its site asked as a logged-in user, its canary and its status files looked at.

No step here, and no decision about other nodes.
"""
