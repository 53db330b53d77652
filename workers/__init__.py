"""How: Celery, settings, the run store, secrets and WinRM sessions. Knows no word of the product."""
