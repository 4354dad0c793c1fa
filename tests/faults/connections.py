"""Parts of the network whose layers are connected wrongly."""

from __future__ import annotations

from torch import Tensor
from torch.func import functional_call

from torch_model.backbone import EfficientNet, MBConvBlock
from torch_model.bifpn import BiFPNCell, Resample
from torch_model.heads import Head
from torch_model.layers import SeparableConv2d


class BatchNormAfterPool(Resample):
    """Convolution, pool, batch norm."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.bn(self.pool(self.conv(x), size))


class PoolFirst(Resample):
    """Pool, convolution, batch norm."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.bn(self.conv(self.pool(x, size)))


class PointwiseFirst(SeparableConv2d):
    """Pointwise convolution, then the depthwise one."""

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(x))


class ActivationFirstInStem(EfficientNet):
    """A stem of convolution, activation, batch norm."""

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x = self.stem_bn(self.stem_act(self.stem_conv(images)))
        features = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.level_of_block:
                features[self.level_of_block[index]] = x
        return features


class ActivationFirstInHead(Head):
    """Repeats of convolution, activation, batch norm."""

    def _level(self, level: str, x: Tensor) -> Tensor:
        for conv, bns, act in zip(self.convs, self.bns, self.acts, strict=True):
            x = bns[level](act(conv(x)))
        return self.predict(x)


class OwnConvolutionAtHighestLevel(Head):
    """A last repeat that is not shared by the highest level: there it is the first one's."""

    def _level(self, level: str, x: Tensor) -> Tensor:
        for repeat, (conv, bns, act) in enumerate(
            zip(self.convs, self.bns, self.acts, strict=True)
        ):
            if repeat == len(self.convs) - 1 and level == list(bns)[-1]:
                x = functional_call(conv, dict(self.convs[0].named_parameters()), (x,))
            else:
                x = conv(x)
            x = act(bns[level](x))
        return self.predict(x)


class FirstNodeOfEachLevel(BiFPNCell):
    """A cell that returns each level's first node rather than its last."""

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        sizes = {level: tuple(feature.shape[-2:]) for level, feature in features.items()}
        made = list(features.values())
        outputs: dict[int, Tensor] = {}
        for node in self.nodes:
            made.append(node(made, sizes[node.level]))
            outputs.setdefault(node.level, made[-1])
        return {level: outputs[level] for level in features}


class EarlierShortcut(EfficientNet):
    """A backbone whose last residual block adds the input of the block before it."""

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x = self.stem_act(self.stem_bn(self.stem_conv(images)))
        features, earlier = {}, x
        for index, block in enumerate(self.blocks):
            arguments = (x, earlier) if isinstance(block, GivenShortcut) else (x,)
            earlier, x = x, block(*arguments)
            if index in self.level_of_block:
                features[self.level_of_block[index]] = x
        return features


def branch(block: MBConvBlock, x: Tensor) -> Tensor:
    """What a block that expands adds to its input."""
    x = block.expand_act(block.expand_bn(block.expand_conv(x)))
    x = block.depthwise_act(block.depthwise_bn(block.depthwise_conv(x)))
    return block.project_bn(block.project_conv(block.se(x)))


class GivenShortcut(MBConvBlock):
    """A block that adds what it is told to."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.residual(branch(self, x), shortcut)


class OwnShortcut(MBConvBlock):
    """A block that adds its own branch's output once more rather than its input."""

    def forward(self, x: Tensor) -> Tensor:
        x = branch(self, x)
        return self.residual(x, x)
