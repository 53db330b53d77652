"""Simulated Windows servers with real WinRM. Independent: shares no code with the product."""
