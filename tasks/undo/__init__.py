"""What a run left on a node, and what has to be done so that the run never happened there.

Reads the node and decides; the step `rollback` acts.
"""
