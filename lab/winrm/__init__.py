"""The server side of WS-Management: messages, logon, shells, sockets.

A host runs the commands; this package does not know what a command does.
"""
