"""Byte-exact edits of XML files: only a value changes, or a line is inserted in the style of the file.

This package knows XML, not the product.
"""
