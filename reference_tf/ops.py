"""The primitive operations under the names that the official graph gives them.

Operations are made through ``tf.raw_ops``, whose names are taken as they are: an operation
gets its official name or building fails, TensorFlow never appends a number of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from efficientdet_spec import (
    BATCH_NORM_DECAY,
    BATCH_NORM_EPSILON,
    FUSION_EPSILON,
    Activation,
    Fusion,
    NodeKind,
)
from reference_tf.variables import Variable

raw = tf.raw_ops
v1 = tf.compat.v1


class GraphBuilder:
    """Adds named operations to the current graph and remembers variables and nodes.

    Args:
        dtype: ``tf.float32`` or ``tf.float64``, of every variable and tensor.
        training: Whether batch norms use the statistics of the batch.
        activation: The function behind the batch norms.

    Attributes:
        variables: Variable by its name in a checkpoint.
        nodes: Tensor of each node of a comparison, in the order of computation.
        kinds: What each node computes.
        statistics: In training, what one step makes of each moving statistic, by its variable.
    """

    def __init__(
        self,
        dtype: tf.DType,
        *,
        training: bool = False,
        activation: Activation = Activation.SWISH,
    ) -> None:
        self.dtype = dtype
        self.activation = activation
        self._activate = {
            Activation.SWISH: self._swish,
            Activation.RELU: self._relu,
            Activation.RELU6: self._relu6,
            Activation.HARD_SWISH: self._hard_swish,
            Activation.MISH: self._mish,
        }[activation]
        self.training = training
        self.statistics: dict[str, tf.Tensor] = {}
        self.variables: dict[str, Variable] = {}
        self.nodes: dict[str, tf.Tensor] = {}
        self.kinds: dict[str, NodeKind] = {}
        self._reads: dict[str, tf.Tensor] = {}

    def node(self, name: str, kind: NodeKind, tensor: tf.Tensor) -> tf.Tensor:
        """Record ``tensor`` as the output of node ``name`` and return it."""
        if name in self.nodes:
            raise ValueError(f"node {name} is made twice")
        self.nodes[name] = tensor
        self.kinds[name] = kind
        return tensor

    def read(self, variable: str, shape: Sequence[int], read_name: str | None = None) -> tf.Tensor:
        """The value of a variable, which is created on first use.

        Args:
            variable: Name in the checkpoint.
            shape: Shape of the variable.
            read_name: Official name of the reading operation; default ``<variable>/read``,
                which operations share.
        """
        name = read_name or f"{variable}/read"
        if name not in self._reads:
            if variable not in self.variables:
                self.variables[variable] = Variable.of(variable, shape, self.dtype)
            handle = self.variables[variable].handle
            self._reads[name] = raw.ReadVariableOp(
                resource=handle, dtype=self.dtype, name=f"{name}/"
            )
        return self._reads[name]

    def numbered(self, name: str) -> str:
        """``name``, or ``name_1``, ``name_2``... where the graph has such an operation already."""
        return v1.get_default_graph().unique_name(name)

    def constant(self, value: float | Sequence[int], name: str, dtype: tf.DType) -> tf.Tensor:
        """A constant under exactly this name."""
        return tf.constant(value, dtype, name=f"{name}/")

    def conv(
        self, x: tf.Tensor, kernel: tf.Tensor, name: str, stride: int = 1, padding: str = "SAME"
    ) -> tf.Tensor:
        """Convolution of NHWC features with an HWIO kernel."""
        strides = [1, stride, stride, 1]
        return raw.Conv2D(input=x, filter=kernel, strides=strides, padding=padding, name=f"{name}/")

    def depthwise(self, x: tf.Tensor, kernel: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        """Depthwise convolution of NHWC features with an HWC1 kernel, SAME padding."""
        return raw.DepthwiseConv2dNative(
            input=x,
            filter=kernel,
            strides=[1, stride, stride, 1],
            padding="SAME",
            name=f"{name}/",
        )

    def bias_add(self, x: tf.Tensor, bias: tf.Tensor, name: str) -> tf.Tensor:
        """One bias for each channel."""
        return raw.BiasAdd(value=x, bias=bias, name=f"{name}/")

    def conv3(
        self,
        x: tf.Tensor,
        variable: str,
        name: str,
        node: str,
        outputs: int,
        *,
        separable: bool = True,
        biased: bool = True,
    ) -> tf.Tensor:
        """3x3 convolution, or a 3x3 depthwise and then a pointwise one.

        Args:
            x: [N, H, W, C].
            variable: Scope of the variables.
            name: Scope of the operations.
            node: Path of the PyTorch module, with ``{}`` for the part of a separable one, which
                begins with a full stop.
            outputs: Channels of the result.
            separable: Whether it is separable.
            biased: Whether a bias is added.
        """
        channels = x.shape[-1]
        if not separable:
            kernel = self.read(f"{variable}/kernel", [3, 3, channels, outputs])
            x = self.conv(x, kernel, f"{name}/Conv2D")
            if biased:
                x = self.bias_add(x, self.read(f"{variable}/bias", [outputs]), f"{name}/BiasAdd")
            return self.node(node.format(""), NodeKind.CONV, x)
        kernel = self.read(f"{variable}/depthwise_kernel", [3, 3, channels, 1])
        x = self.depthwise(x, kernel, f"{name}/separable_conv2d/depthwise")
        self.node(node.format(".depthwise"), NodeKind.DEPTHWISE, x)
        kernel = self.read(f"{variable}/pointwise_kernel", [1, 1, channels, outputs])
        x = self.conv(x, kernel, f"{name}/separable_conv2d", padding="VALID")
        if biased:
            x = self.bias_add(x, self.read(f"{variable}/bias", [outputs]), f"{name}/BiasAdd")
        return self.node(node.format(".pointwise"), NodeKind.CONV, x)

    def batch_norm(self, x: tf.Tensor, variable: str, node: str) -> tf.Tensor:
        """Batch norm with the moving statistics; in training with those of the batch.

        TensorFlow's fused kernel knows no float64; there the same formula is built from
        elementary operations.
        """
        shape = [x.shape[-1]]
        fused = f"{variable}/FusedBatchNormV3"
        gamma = self.read(f"{variable}/gamma", shape, f"{variable}/ReadVariableOp")
        beta = self.read(f"{variable}/beta", shape, f"{variable}/ReadVariableOp_1")
        mean = self.read(f"{variable}/moving_mean", shape, f"{fused}/ReadVariableOp")
        variance = self.read(f"{variable}/moving_variance", shape, f"{fused}/ReadVariableOp_1")
        if self.training:
            x, batch_mean, batch_variance = self._normalise_batch(x, gamma, beta, variable)
            for name, old, new in (
                ("moving_mean", mean, batch_mean),
                ("moving_variance", variance, batch_variance),
            ):
                # As Keras' assign_moving_average.
                self.statistics[f"{variable}/{name}"] = old - (old - new) * (1 - BATCH_NORM_DECAY)
        elif self.dtype == tf.float32:
            x = raw.FusedBatchNormV3(
                x=x,
                scale=gamma,
                offset=beta,
                mean=mean,
                variance=variance,
                epsilon=BATCH_NORM_EPSILON,
                is_training=False,
                name=f"{fused}/",
            ).y
        else:
            with tf.name_scope(f"{variable}/batchnorm/"):
                x = (x - mean) * (tf.math.rsqrt(variance + BATCH_NORM_EPSILON) * gamma) + beta
        return self.node(node, NodeKind.BATCH_NORM, x)

    def _normalise_batch(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, variable: str
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalised features, and mean and variance of the batch for the moving statistics.

        The fused kernel normalises by the biased variance and reports the unbiased one.
        """
        if self.dtype == tf.float32:
            # In training the kernel takes no statistics.
            none = tf.constant([], tf.float32)
            result = raw.FusedBatchNormV3(
                x=x,
                scale=gamma,
                offset=beta,
                mean=none,
                variance=none,
                epsilon=BATCH_NORM_EPSILON,
                is_training=True,
                name=f"{variable}/FusedBatchNormV3/",
            )
            return result.y, result.batch_mean, result.batch_variance
        with tf.name_scope(f"{variable}/batchnorm/"):
            mean = tf.reduce_mean(x, [0, 1, 2])
            centred = x - mean
            variance = tf.reduce_mean(centred * centred, [0, 1, 2])
            scaled = centred * (tf.math.rsqrt(variance + BATCH_NORM_EPSILON) * gamma)
            count = x.shape[0] * x.shape[1] * x.shape[2]
            return scaled + beta, mean, variance * (count / (count - 1))

    def activate(self, x: tf.Tensor, scope: str, node: str) -> tf.Tensor:
        """The model's activation of ``x``."""
        return self.node(node, NodeKind.ACTIVATION, self._activate(x, scope))

    def _swish(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """``x * sigmoid(beta * x)`` with beta = 1, as ``tf.nn.swish`` builds it."""
        beta = self.constant(1.0, self.numbered(f"{scope}/beta"), self.dtype)
        scaled = raw.Mul(x=beta, y=x, name=self.numbered(f"{scope}/mul") + "/")
        gate = raw.Sigmoid(x=scaled, name=self.numbered(f"{scope}/Sigmoid") + "/")
        product = raw.Mul(x=x, y=gate, name=self.numbered(f"{scope}/mul") + "/")
        name = self.numbered(f"{scope}/IdentityN") + "/"
        return raw.IdentityN(input=[product, x, beta], name=name)[0]

    def _relu(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        return raw.Relu(features=x, name=self.numbered(f"{scope}/Relu") + "/")

    def _relu6(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        return raw.Relu6(features=x, name=self.numbered(f"{scope}/Relu6") + "/")

    def _hard_swish(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """``x * relu6(x + 3) / 6`` (official ``utils.activation_fn``)."""
        name = self.numbered(f"{scope}/add")
        three = self.constant(3.0, f"{name}/y", self.dtype)
        moved = self._relu6(raw.AddV2(x=x, y=three, name=f"{name}/"), scope)
        product = raw.Mul(x=x, y=moved, name=self.numbered(f"{scope}/mul") + "/")
        name = self.numbered(f"{scope}/truediv")
        six = self.constant(6.0, f"{name}/y", self.dtype)
        return raw.RealDiv(x=product, y=six, name=f"{name}/")

    def _mish(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """``x * tanh(softplus(x))`` (official ``utils.activation_fn``)."""
        soft = raw.Softplus(features=x, name=self.numbered(f"{scope}/Softplus") + "/")
        gate = raw.Tanh(x=soft, name=self.numbered(f"{scope}/Tanh") + "/")
        return raw.Mul(x=x, y=gate, name=self.numbered(f"{scope}/mul") + "/")

    def max_pool(self, x: tf.Tensor, size: tuple[int, int], name: str, node: str) -> tf.Tensor:
        """Max-pool to a smaller size: stride ``(h - 1) // target + 1``, kernel stride + 1."""
        strides = [(x.shape[axis + 1] - 1) // size[axis] + 1 for axis in (0, 1)]
        x = raw.MaxPool(
            input=x,
            ksize=[1, *(stride + 1 for stride in strides), 1],
            strides=[1, *strides, 1],
            padding="SAME",
            name=f"{name}/",
        )
        return self.node(node, NodeKind.POOL, x)

    def upsample(self, x: tf.Tensor, size: tuple[int, int], name: str, node: str) -> tf.Tensor:
        """Nearest-neighbour resize in TensorFlow 1's convention (corners, no pixel centres)."""
        target = self.constant(size, f"{name}/size", tf.int32)
        return self.node(
            node,
            NodeKind.UPSAMPLE,
            raw.ResizeNearestNeighbor(images=x, size=target, name=f"{name}/"),
        )

    def fuse(self, inputs: list[tf.Tensor], fusion: Fusion, scope: str, node: str) -> tf.Tensor:
        """Weighted sum of one node's inputs."""
        if fusion is Fusion.SUM:
            return self.node(node, NodeKind.FUSE, raw.AddN(inputs=inputs, name=f"{scope}/AddN/"))
        names = [f"{scope}/WSM" if i == 0 else f"{scope}/WSM_{i}" for i in range(len(inputs))]
        shape = [inputs[0].shape[-1]] if fusion.is_per_channel else []
        weights = [self.read(name, shape) for name in names]
        if fusion.is_softmax:
            # The weights of one channel, or all there are, lie along the last axis.
            axis = -1 if shape else 0
            stacked = raw.Pack(values=weights, axis=axis, name=f"{scope}/stack/")
            shares = raw.Softmax(logits=stacked, name=f"{scope}/Softmax/")
            features = raw.Pack(values=inputs, axis=-1, name=f"{scope}/stack_1/")
            product = raw.Mul(x=features, y=shares, name=f"{scope}/mul/")
            axis = self.constant(-1, f"{scope}/Sum/reduction_indices", tf.int32)
            return self.node(
                node, NodeKind.FUSE, raw.Sum(input=product, axis=axis, name=f"{scope}/Sum/")
            )
        shares = [
            raw.Relu(features=weight, name=self.numbered(f"{scope}/Relu") + "/")
            for weight in weights
        ]
        total = raw.AddN(inputs=shares, name=f"{scope}/AddN/")
        terms = []
        for x, share in zip(inputs, shares, strict=True):
            product = raw.Mul(x=x, y=share, name=self.numbered(f"{scope}/mul") + "/")
            name = self.numbered(f"{scope}/add")
            epsilon = self.constant(FUSION_EPSILON, f"{name}/y", self.dtype)
            divisor = raw.AddV2(x=total, y=epsilon, name=f"{name}/")
            name = self.numbered(f"{scope}/truediv") + "/"
            terms.append(raw.RealDiv(x=product, y=divisor, name=name))
        return self.node(node, NodeKind.FUSE, raw.AddN(inputs=terms, name=f"{scope}/AddN_1/"))
