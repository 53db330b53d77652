"""Secrets: references become values only here, and certificate material is stored sealed.

No value leaves this room except to the session that logs on with it.
"""
