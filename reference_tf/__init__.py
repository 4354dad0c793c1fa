"""EfficientDet as a TensorFlow 1 graph, operation for operation Google's."""

from reference_tf.graph import ReferenceGraph, build
from reference_tf.session import open_session

__all__ = ["ReferenceGraph", "build", "open_session"]
