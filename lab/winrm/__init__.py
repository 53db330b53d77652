"""WS-Management on the server side: messages, logon, shells, sockets.

Knows a host that runs commands, not what a command does.
"""
