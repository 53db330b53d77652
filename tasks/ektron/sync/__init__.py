"""A sync of the product, seen over HTTP and on disks: what answers mean, when it has ended, why a file is missing.

No request is made here.
"""
