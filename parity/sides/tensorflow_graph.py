"""The TensorFlow graph as a producer: every node's tensor is handed over as it is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import tensorflow as tf

from parity.process.arrays import Array
from parity.sides.side import Reference
from parity.sides.stream import Rendezvous, producing


class TensorflowReference:
    """A TensorFlow 1 graph whose nodes call back with their values, in a fixed order.

    A tap is an operation behind a node's tensor. Taps are chained by control dependencies, and
    a node's operation waits for the tap of the node before it, so that the graph never runs
    ahead of its consumer and holds no tensor that is no longer needed.

    Args:
        built: The graph with its nodes, as ``reference_tf`` builds or loads it; taps are added to
            it once, before any session exists.
    """

    def __init__(self, built: Any) -> None:
        self._built = built
        self._stream: Rendezvous | None = None
        previous = None
        with built.graph.as_default():
            for name, tensor in built.nodes.items():
                if previous is not None:
                    # The public API sets control inputs only on operations yet to be made.
                    tensor.op._add_control_input(previous)
                with tf.control_dependencies([] if previous is None else [previous]):
                    previous = tf.numpy_function(self._tap(name), [tensor], [], stateful=True)
        self._last = previous

    def _tap(self, name: str) -> Callable[[Array], None]:
        def hand_over(array: Array) -> None:
            if self._stream is None:
                raise RuntimeError("taps work only while a stream is open")
            self._stream.offer(name, array)

        return hand_over

    @contextlib.contextmanager
    def stream(self, session: Any, images: Array) -> Iterator[Rendezvous]:
        """Run the graph once in a thread of its own while the body takes its tensors.

        Args:
            session: A session on the graph with every variable filled.
            images: [N, H, W, 3], of the graph's type.
        """

        def compute(stream: Rendezvous) -> None:
            self._stream = stream
            session.run(self._last, {self._built.images: images})

        try:
            with producing(compute, "tensorflow") as stream:
                yield stream
        finally:
            self._stream = None

    def reference(self, session: Any, described: dict[str, Any]) -> Reference:
        """The graph in a session, ready to compute.

        Args:
            session: A session on the graph with every variable filled.
            described: Where the graph comes from.
        """
        built = self._built
        return Reference(
            kinds=built.kinds,
            outputs=built.output_nodes,
            compute=partial(self.stream, session),
            described=described,
            framework="TensorFlow",
            tensors={name: tensor.name for name, tensor in built.nodes.items()},
            sizes={name: tensor.shape.as_list() for name, tensor in built.nodes.items()},
        )
