"""What a model is made of: kinds of nodes, ways of fusion, and the constants in them.

Sources: EfficientDet (arXiv 1911.09070) and the official code, google/automl ``efficientdet/``.
"""

from __future__ import annotations

from enum import Enum

BATCH_NORM_EPSILON = 1e-3
"""Added to the variance in every batch norm (official ``utils.batch_norm_act``)."""

BATCH_NORM_DECAY = 0.99
"""TensorFlow's batch-norm momentum: the share of the old moving statistics that is kept.

PyTorch's ``momentum`` is the share of the new ones, ``1 - BATCH_NORM_DECAY``.
"""

FUSION_EPSILON = 1e-4
"""Added to the sum of the weights in fast attention (paper, section 3.3)."""


EMA_SUFFIX = "/ExponentialMovingAverage"
"""Behind a variable's name in a checkpoint: its moving average over training, which the official
releases are evaluated with (``tf.train.ExponentialMovingAverage.average_name``)."""


class Fusion(str, Enum):
    """How a BiFPN node combines its inputs (paper, section 3.3; official ``fpn_weight_method``)."""

    FAST_ATTENTION = "fastattn"
    """``sum_i relu(w_i) x_i / (sum_j relu(w_j) + FUSION_EPSILON)``."""
    SOFTMAX_ATTENTION = "attn"
    """``sum_i softmax(w)_i x_i``."""
    CHANNEL_FAST_ATTENTION = "channel_fastattn"
    """As fast attention, with weights of its own for each channel."""
    CHANNEL_SOFTMAX_ATTENTION = "channel_attn"
    """As softmax attention, with weights of its own for each channel."""
    SUM = "sum"
    """``sum_i x_i``; no weights."""

    @property
    def is_weighted(self) -> bool:
        """Whether a node has weights."""
        return self is not Fusion.SUM

    @property
    def is_per_channel(self) -> bool:
        """Whether each channel has weights of its own."""
        return self in (Fusion.CHANNEL_FAST_ATTENTION, Fusion.CHANNEL_SOFTMAX_ATTENTION)

    @property
    def is_softmax(self) -> bool:
        """Whether the shares are the softmax of the weights."""
        return self in (Fusion.SOFTMAX_ATTENTION, Fusion.CHANNEL_SOFTMAX_ATTENTION)

    @property
    def words(self) -> str:
        """What people read."""
        return {
            Fusion.FAST_ATTENTION: "fast attention",
            Fusion.SOFTMAX_ATTENTION: "softmax attention",
            Fusion.CHANNEL_FAST_ATTENTION: "fast attention of each channel",
            Fusion.CHANNEL_SOFTMAX_ATTENTION: "softmax attention of each channel",
            Fusion.SUM: "plain sums",
        }[self]


class Activation(str, Enum):
    """The function behind a batch norm (official ``act_type``), the same all over a model.

    The value is the official name; ``utils.activation_fn`` says what each is.
    """

    SWISH = "swish"
    """``x * sigmoid(x)`` (arXiv 1710.05941); officially also ``silu`` and ``swish_native``."""
    RELU = "relu"
    """``max(x, 0)``."""
    RELU6 = "relu6"
    """``min(max(x, 0), 6)``, of the lite models."""
    HARD_SWISH = "hswish"
    """``x * relu6(x + 3) / 6`` (arXiv 1905.02244)."""
    MISH = "mish"
    """``x * tanh(log(1 + exp(x)))`` (arXiv 1908.08681)."""


class NodeKind(str, Enum):
    """What a node computes; it decides how rounding may act on its output.

    Of an activation it does not say which; see :class:`Activation`.
    """

    CONV = "convolution"
    DEPTHWISE = "depthwise convolution"
    BATCH_NORM = "batch norm"
    ACTIVATION = "activation"
    MEAN = "mean"
    GATE = "gate"
    SCALE = "scale"
    ADD = "sum"
    FUSE = "fusion"
    POOL = "max-pool"
    UPSAMPLE = "up-sampling"
