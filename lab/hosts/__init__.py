"""What runs a command line: the simulated machine, or a real process.

Nothing here speaks WinRM.
"""
