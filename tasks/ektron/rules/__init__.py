"""Invariants: what must hold in a joined cluster, and the findings about it.

Input: facts. Output: findings. A new rule belongs in the file of its subject; a new file is listed in `invariants.py`.
"""
