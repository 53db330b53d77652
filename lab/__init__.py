"""Simulated Windows servers that speak real WinRM. Stands apart: shares no code with the product."""
