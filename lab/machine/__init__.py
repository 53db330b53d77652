"""A simulated Windows server: disk, services, network, clock, and what is broken on it.

Knows neither WinRM nor the product.
"""
