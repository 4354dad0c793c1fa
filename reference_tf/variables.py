"""A graph's variables, as far as reading a checkpoint's values needs them.

TensorFlow's own variables come with an initial value and operations around it, none of which is
needed here. Making them took two thirds of the time in which a small model's graph was built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

raw = tf.raw_ops
v1 = tf.compat.v1


@dataclass(frozen=True)
class Variable:
    """A variable of a graph.

    Attributes:
        handle: The resource, or in older graphs the reference to the values.
    """

    handle: tf.Tensor

    @classmethod
    def of(cls, name: str, shape: Sequence[int], dtype: tf.DType) -> Variable:
        """A new variable, which has no value yet.

        Args:
            name: In the checkpoint, and in the graph.
            shape: Its shape.
            dtype: Type of its values.
        """
        return cls(
            raw.VarHandleOp(
                dtype=dtype, shape=list(shape), shared_name=name, name=f"{name}/", container=""
            )
        )

    @property
    def dtype(self) -> tf.DType:
        """Type of its values."""
        return self.handle.op.get_attr("dtype")

    @property
    def shape(self) -> tf.TensorShape:
        """Shape of its values."""
        return tf.TensorShape(self.handle.op.get_attr("shape"))

    def assign(self, value: tf.Tensor) -> tf.Operation:
        """What gives it a value.

        Args:
            value: Of its shape; converted to its type.
        """
        value = tf.cast(value, self.dtype)
        if self.handle.dtype == tf.resource:
            return raw.AssignVariableOp(resource=self.handle, value=value)
        return v1.assign(self.handle, value).op
