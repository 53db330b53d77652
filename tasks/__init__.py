"""What: one step on one node."""
