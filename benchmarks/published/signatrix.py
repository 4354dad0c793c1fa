"""signatrix/efficientdet: its network, which has another structure.

``SIGNATRIX`` names a checkout of it; it needs the package ``efficientnet_pytorch``.
"""

import collections
import os
import sys

sys.path.insert(0, os.environ["SIGNATRIX"])


def build(faithful):
    """The network, with the checkpoint's values in every parameter whose shape has one left."""
    from efficientnet_pytorch import EfficientNet
    from src.model import EfficientDet

    # It would download ImageNet's weights.
    EfficientNet.from_pretrained = classmethod(lambda cls, name, **_: cls.from_name(name))
    model = EfficientDet(num_classes=faithful.config.num_classes)
    left = collections.defaultdict(collections.deque)
    for name, value in faithful.state_dict().items():
        left[name.rpartition(".")[2], tuple(value.shape)].append(value)
    state = model.state_dict()
    for name, value in state.items():
        fitting = left[name.rpartition(".")[2], tuple(value.shape)]
        state[name] = fitting.popleft() if fitting else value
    model.load_state_dict(state)
    return model.eval()
