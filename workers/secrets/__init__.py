"""Secrets: references become values only here, and certificate material is stored sealed.

A value leaves this package only for the session that logs on with it.
"""
