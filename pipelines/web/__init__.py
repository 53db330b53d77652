"""The way in over the network: `esync serve` answers programs (api) and browsers (pages). Thin, as the command line.

Not here: decisions, and anything that has to outlive a request. The run store is the truth; any number of servers run.
"""
