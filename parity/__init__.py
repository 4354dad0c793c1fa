"""Streams, measures and judges the activations of two frameworks."""
