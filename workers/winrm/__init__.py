"""One open conversation with one Windows server."""
