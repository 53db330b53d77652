"""The configuration files of the product: reads them, edits them, compares them without secrets.

Input: bytes. Output: facts or bytes. This package opens no files.
"""
