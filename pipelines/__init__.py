"""When: which nodes, in which order, and what happens after; the ways in."""
