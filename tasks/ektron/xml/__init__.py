"""XML files edited by bytes: only the value changes, or a line is inserted in the style of the file.

Knows XML, not the product.
"""
