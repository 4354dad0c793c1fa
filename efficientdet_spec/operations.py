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
    """How a BiFPN node combines its inputs (paper, section 3.3)."""

    FAST_ATTENTION = "fastattn"
    """``sum_i relu(w_i) x_i / (sum_j relu(w_j) + FUSION_EPSILON)``."""
    SOFTMAX_ATTENTION = "attn"
    """``sum_i softmax(w)_i x_i``."""
    SUM = "sum"
    """``sum_i x_i``; no weights."""


class Activation(str, Enum):
    """The function behind a batch norm (official ``act_type``), the same all over a model."""

    SWISH = "swish"
    """``x * sigmoid(x)`` (arXiv 1710.05941)."""


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
