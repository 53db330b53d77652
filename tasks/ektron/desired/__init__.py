"""What a node has to have, and what it still lacks: the plan and the steps ask the same functions.

Pure, like all of `tasks.ektron`: facts and bytes in, values out.
"""
