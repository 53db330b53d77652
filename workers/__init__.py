"""How: Celery, settings, the run store, secrets and WinRM sessions. Nothing here knows the product."""
