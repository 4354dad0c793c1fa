"""The whole inference graph and the way of a checkpoint's values into it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from efficientdet_spec import EMA_SUFFIX, Cause, EfficientDetConfig, InputError, NodeKind
from reference_tf.backbone import build_backbone
from reference_tf.bifpn import build_bifpn
from reference_tf.heads import build_head
from reference_tf.ops import GraphBuilder, v1
from reference_tf.variables import Variable


@dataclass(frozen=True)
class ReferenceGraph:
    """An inference graph with official names.

    Attributes:
        config: The model.
        graph: The TensorFlow graph.
        images: Placeholder [N, H, W, 3] of normalised RGB images.
        nodes: Tensor (NHWC) of each node of a comparison, in the order of computation.
        kinds: What each node computes.
        class_outputs: Class logits for each level, [N, H_l, W_l, num_anchors * num_classes].
        box_outputs: Box codes for each level, [N, H_l, W_l, num_anchors * 4].
        variables: Variable by its name in a checkpoint (without EMA suffix).
        statistics: In training, what one step makes of each moving statistic, by its variable.
    """

    config: EfficientDetConfig
    graph: tf.Graph
    images: tf.Tensor
    nodes: Mapping[str, tf.Tensor]
    kinds: Mapping[str, NodeKind]
    class_outputs: list[tf.Tensor]
    box_outputs: list[tf.Tensor]
    variables: Mapping[str, Variable]
    statistics: Mapping[str, tf.Tensor]

    @property
    def output_nodes(self) -> list[str]:
        """Names of the nodes that are the network's outputs: class, then box, finest first."""
        names = {tensor.name: name for name, tensor in self.nodes.items()}
        return [names[tensor.name] for tensor in [*self.class_outputs, *self.box_outputs]]

    def restore(
        self,
        session: v1.Session,
        prefix: str | os.PathLike[str],
        *,
        ema: bool,
        scope: str = "",
    ) -> None:
        """Fill every variable from a checkpoint with TensorFlow's own reader.

        Args:
            session: A session on :attr:`graph`.
            prefix: Checkpoint prefix.
            ema: Take a variable's exponential moving average where the file has one;
                otherwise, and where it has none, the raw value.
            scope: What stands before every variable's name in the file, such as ``model/``.

        Raises:
            InputError: A variable is missing, or TensorFlow cannot read the file.
        """
        prefix = os.fspath(prefix)
        try:
            stored = v1.train.load_checkpoint(prefix).get_variable_to_dtype_map()
            names = [
                name + EMA_SUFFIX if ema and name + EMA_SUFFIX in stored else name
                for name in (scope + name for name in self.variables)
            ]
            missing = [name for name in names if name not in stored]
            if missing:
                raise InputError(
                    f"{prefix} lacks {len(missing)} variables of {self.config.name}, "
                    f"the first being {missing[0]}; is it a checkpoint of this model?",
                    Cause.MODEL,
                )
            with self.graph.as_default():
                values = tf.raw_ops.RestoreV2(
                    prefix=prefix,
                    tensor_names=names,
                    shape_and_slices=[""] * len(names),
                    # Each as it is stored; assigning casts.
                    dtypes=[stored[name] for name in names],
                )
                assignments = [
                    variable.assign(value)
                    for variable, value in zip(self.variables.values(), values, strict=True)
                ]
            session.run(assignments)
        except (tf.errors.OpError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"TensorFlow cannot restore {prefix}: {str(error).splitlines()[0]:.200}",
                Cause.FORMAT,
            ) from error

    def assign(self, session: v1.Session, values: Iterable[tuple[str, Any]]) -> None:
        """Fill every variable with values that no reader of TensorFlow's can take from their file.

        Args:
            session: A session on :attr:`graph`.
            values: Each variable's name with its array; one is in memory at a time.

        Raises:
            KeyError: A variable is none of the graph's.
        """
        waiting = dict(self.variables)
        with self.graph.as_default():
            for name, value in values:
                variable = waiting.pop(name)
                given = v1.placeholder(tf.as_dtype(value.dtype), value.shape)
                session.run(variable.assign(given), {given: value})
        assert not waiting, f"{len(waiting)} variables have no value, such as {next(iter(waiting))}"


def build(
    config: EfficientDetConfig,
    height: int,
    width: int,
    *,
    batch: int = 1,
    dtype: str = "float32",
    training: bool = False,
) -> ReferenceGraph:
    """The inference graph for images of one size.

    Args:
        config: The model.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        batch: Number of images.
        dtype: ``float32``, or ``float64`` where batch norm is decomposed.
        training: Whether batch norms use the statistics of the batch; nothing else changes, no
            layer is dropped.

    Raises:
        InputError: The model cannot process this size.
    """
    config.feature_sizes(height, width)
    graph = tf.Graph()
    with graph.as_default():
        builder = GraphBuilder(tf.as_dtype(dtype), training=training, activation=config.activation)
        images = v1.placeholder(builder.dtype, [batch, height, width, 3], name="images")
        features = build_backbone(builder, config.backbone, images)
        features = build_bifpn(builder, config, features)
        classes = build_head(
            builder, config, features, "class_net", "class", "class_head", config.num_classes
        )
        boxes = build_head(builder, config, features, "box_net", "box", "box_head", 4)
    return ReferenceGraph(
        config,
        graph,
        images,
        builder.nodes,
        builder.kinds,
        classes,
        boxes,
        builder.variables,
        builder.statistics,
    )
