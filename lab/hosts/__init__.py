"""Runs a command line: on the simulated machine, or as a real process.

Does not know WinRM.
"""
