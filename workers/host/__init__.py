"""The machine that esync runs on: private files and locks, processes, named files, limits of open files and memory.

Nothing here knows Celery, Redis or a node.
"""
