"""A comparison of nodes from its settings to its result; nothing here prints."""
