"""Runs what the pages are made of, and knows what can be kept of an earlier run."""
