"""The certificate files of the product: the family of six, and each file format.

Bytes in, facts or bytes out. No file is opened here.
"""
