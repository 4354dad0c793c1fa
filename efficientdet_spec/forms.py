"""The forms in which a converted model can compute."""

EAGER = "eager"
"""Layer by layer, each a node of its own."""

OPTIMIZED = "optimized"
"""Batch norms folded, activations fused, compiled for one shape of images."""

FORMS = (EAGER, OPTIMIZED)
"""Every form."""
