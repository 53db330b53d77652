"""The certificate files of the product: the family of six files, and each file format.

Input: bytes. Output: facts or bytes. This package opens no files.
"""
