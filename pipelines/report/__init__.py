"""Runs, plans and answers as text, HTML and JSON.

Pure: nothing is decided here, and no file is read or written.
"""
