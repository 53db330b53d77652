"""What browsers see: clusters, runs and plans as pages that move by themselves, and forms that start and steer runs.

Not here: decisions (`pipelines.usecases`), what a report says (`pipelines.report`), and who asks (`pipelines.web`).
"""
