"""The `esync` command: parses arguments, calls a use case and prints the result.

No decision is made here. stdout is for data, stderr is for people.
"""
