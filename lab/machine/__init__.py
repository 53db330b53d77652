"""A simulated Windows server: disk, services, network, clock and faults.

Knows neither WinRM nor the product.
"""
