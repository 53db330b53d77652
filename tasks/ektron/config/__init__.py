"""The configuration files of the product: read, edited, compared without secrets.

Bytes in, facts or bytes out. No file is opened here.
"""
