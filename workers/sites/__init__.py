"""Requests to the web site of one node, past any balancer: bounded, without redirects, with the site's cookies.

Nothing here knows the product.
"""
