"""A standing fuzz harness: every reader is given damaged inputs, every writer is killed.

``python -m fuzzing.run`` runs it; ``targets`` holds a file for each reader, ``damage`` the ways to
damage what they read, ``kills`` the commands that are killed.
"""
