"""A run, a plan and an answer as text, HTML and JSON.

Pure: what is shown was decided elsewhere. No file is read or written here.
"""
