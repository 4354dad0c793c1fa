"""The commands of ``compare.py``: the one place in this package where all rooms meet.

Nothing else in it imports from here; each framework is imported when a command needs it.
"""
