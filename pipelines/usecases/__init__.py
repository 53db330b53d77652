"""What every way in may ask for: start, steer, retry, roll back, explain, list. One function a request.

The command line, a message and a web page call these functions. Nothing here prints or parses arguments.
"""
