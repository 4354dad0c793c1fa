"""What a running candidate was seen to do, and which of its operations make which nodes.

Nothing in here knows a framework: values are numbered, and known by samples of their elements.
"""
