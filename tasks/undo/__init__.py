"""What a run left on a node, and what has to be done to undo it there.

Reads the node and decides; the step `rollback` acts.
"""
