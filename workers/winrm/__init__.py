"""Sessions with Windows servers over WinRM, and the agent that runs there. Only this package knows WinRM."""
