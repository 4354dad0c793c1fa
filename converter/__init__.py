"""TensorFlow checkpoints in and out, and the one mapping to PyTorch's parameters."""
