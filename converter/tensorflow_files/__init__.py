"""TensorFlow's own files, byte by byte, read and written without TensorFlow."""
