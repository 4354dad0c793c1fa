"""TensorFlow checkpoints in and out, and the mappings to PyTorch's parameters."""
