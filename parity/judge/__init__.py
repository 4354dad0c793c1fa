"""What the arrays of two sides say about a node: distances, limits, verdicts.

Nothing here knows a framework.
"""
