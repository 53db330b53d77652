"""The machine that esync runs on: private files and locks, processes, named files, the limit of open files.

Nothing here knows Celery, Redis or a node.
"""
