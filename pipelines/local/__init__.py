"""What one machine needs: broker, workers and Flower as child processes, and the state folder.

Nothing here knows what a run does.
"""
