"""The `esync` command. Thin: it parses arguments, calls a use case and prints the result.

No decision is made here. stdout is data, stderr is for people.
"""
