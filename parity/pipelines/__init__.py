"""Whole pipelines, from an image file to boxes, and the known mistakes that ports make in them."""
