"""The TensorFlow graph as a producer: every node's tensor is handed over as it is computed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from efficientdet_spec import NodeKind
from parity.sides.stream import Array, Rendezvous


class TensorflowReference:
    """A TensorFlow 1 graph whose nodes call back with their values, in a fixed order.

    A tap is an operation behind a node's tensor. Taps are chained by control dependencies, and
    a node's operation waits for the tap of the node before it, so that the graph never runs
    ahead of its consumer and holds no tensor that is no longer needed.

    Args:
        graph: The graph; taps are added to it once, before any session exists.
        placeholder: Its images.
        nodes: Tensor of each node in the order of computation.
        kinds: What each node computes.

    Attributes:
        kinds: As given.
    """

    def __init__(
        self,
        graph: Any,
        placeholder: Any,
        nodes: Mapping[str, Any],
        kinds: Mapping[str, NodeKind],
    ) -> None:
        self.kinds = kinds
        self._placeholder = placeholder
        self._stream: Rendezvous | None = None
        previous = None
        with graph.as_default():
            for name, tensor in nodes.items():
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
        stream = self._stream = Rendezvous()

        def run() -> None:
            try:
                session.run(self._last, {self._placeholder: images})
            except Exception as error:
                stream.close(error)
            else:
                stream.close()

        thread = threading.Thread(target=run, name="tensorflow", daemon=True)
        thread.start()
        try:
            yield stream
        finally:
            stream.close()
            thread.join()
            self._stream = None
