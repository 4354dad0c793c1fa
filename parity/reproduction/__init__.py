"""A failing node on its own: a short script and a few numbers that show what is wrong with it."""
