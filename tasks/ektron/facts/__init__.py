"""Facts: what was observed on a node, as frozen values, the input of all rules; not the questions that find them.

Pure, like all of `tasks.ektron`. Facts contain no secrets.
"""
