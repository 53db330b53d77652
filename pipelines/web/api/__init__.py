"""The HTTP API: one function a route. Each calls a use case, as the command line does.

Not here: who asks (`pipelines.web.identity`), and what an error looks like (`pipelines.web.problems`).
"""
