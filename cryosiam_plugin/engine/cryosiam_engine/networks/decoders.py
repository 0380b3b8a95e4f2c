"""From the four maps of the encoder back to one map of full resolution."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cryosiam_engine.networks.description import BackboneDescription
from cryosiam_engine.networks.layers import batch_norm, convolution, subsample

#: Of the bidirectional decoder's batch normalisations, and of its weights' normalisation.
_BIFPN_NORM_EPS = 4e-5
_BIFPN_WEIGHT_EPS = 1e-4


class FeaturePyramid(nn.Module):
    """Feature pyramid network: coarse maps are interpolated and added to the finer ones."""

    def __init__(self, description: BackboneDescription) -> None:
        super().__init__()
        dims, width = description.spatial_dims, description.fpn_channels
        self.mode = {2: "bilinear", 3: "trilinear"}[dims]
        # layer1 belongs to the coarsest map.
        for number, channels in enumerate(reversed(description.stage_channels), start=1):
            self.add_module(f"layer{number}", convolution(dims, channels, width))
        self.has_later_conv = description.add_fpn_later_conv
        if self.has_later_conv:
            for number in range(1, 5):
                self.add_module(f"later_conv{number}", convolution(dims, width, width, 3))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Decode the encoder's maps.

        Parameters
        ----------
        levels
            The four maps, finest first. The list is emptied on the way, so that each map's
            memory is free as soon as it has been used.

        Returns
        -------
        Tensor
            ``(b, fpn_channels, z, y, x)`` at the finest map's size.
        """
        x = self.get_submodule("layer1")(levels.pop())
        for number in range(2, 5):
            finer = self.get_submodule(f"layer{number}")(levels.pop())
            finer += interpolate(x, size=finer.shape[2:], mode=self.mode, align_corners=False)
            x = finer
        return self.get_submodule("later_conv4")(x) if self.has_later_conv else x

    def drop_unused(self) -> None:
        """Remove the layers that do not influence the finest map."""
        for number in range(1, 4) if self.has_later_conv else ():
            delattr(self, f"later_conv{number}")


class BidirectionalPyramid(nn.Module):
    """Bidirectional feature pyramid (BiFPN) over five levels, the coarsest made here.

    Edges of its input must be multiples of 16 voxels of the stem's map.
    """

    def __init__(self, description: BackboneDescription) -> None:
        super().__init__()
        dims, width = description.spatial_dims, description.fpn_channels
        for number, channels in enumerate(description.stage_channels, start=2):
            self.add_module(f"p{number}", convolution(dims, channels, width))
        self.p6 = nn.Sequential(
            OrderedDict(
                conv=convolution(dims, width, width, 3, stride=2),
                bn=batch_norm(dims, width, eps=_BIFPN_NORM_EPS),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.bifpn = nn.ModuleList(
            BidirectionalBlock(dims, width) for _ in range(description.fpn_layers)
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Decode the encoder's maps; as :meth:`FeaturePyramid.forward`, which see."""
        lateral: list[Tensor] = []
        for number in range(5, 1, -1):
            lateral.insert(0, self.get_submodule(f"p{number}")(levels.pop()))
        lateral.append(self.p6(lateral[-1]))
        for block in self._blocks()[:-1]:
            lateral = block(lateral)
        # Only the finest map leaves the decoder, and the last upward path does not change it.
        return self._blocks()[-1].top_down(lateral)[0]

    def drop_unused(self) -> None:
        """Remove the layers that do not influence the finest map."""
        for name in ("p3_out", "p4_out", "p5_out", "p6_out", "w2"):
            delattr(self._blocks()[-1], name)

    def _blocks(self) -> list[BidirectionalBlock]:
        return cast("list[BidirectionalBlock]", [*self.bifpn])


class BidirectionalBlock(nn.Module):
    """One pass down and one pass up the pyramid, with learned, normalised fusion weights."""

    def __init__(self, spatial_dims: int, width: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.rand(2, 4))
        self.w2 = nn.Parameter(torch.rand(3, 4))
        names = [f"p{n}_td" for n in range(2, 6)] + [f"p{n}_out" for n in range(3, 7)]
        for name in names:
            self.add_module(name, _fusion_layer(spatial_dims, width))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Refine the five maps (finest first)."""
        down = self.top_down(levels)
        weight = _normalised(self.w2)
        up = [down[0]]
        for column, (level, middle) in enumerate(zip(levels[1:], down[1:], strict=True)):
            fused = level * weight[0, column]
            fused += middle * weight[1, column]
            fused += subsample(up[-1], 2) * weight[2, column]
            up.append(self.get_submodule(f"p{column + 3}_out")(fused))
        return up

    def top_down(self, levels: list[Tensor]) -> list[Tensor]:
        """Pass from the coarsest map to the finest; the maps' order and sizes stay."""
        weight = _normalised(self.w1)
        down = [levels[-1]]
        for column, number in enumerate(range(5, 1, -1)):
            fused = levels[number - 2] * weight[0, column]
            fused += interpolate(down[0], scale_factor=2, mode="nearest") * weight[1, column]
            down.insert(0, self.get_submodule(f"p{number}_td")(fused))
        return down


def _fusion_layer(spatial_dims: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            depthwise=convolution(spatial_dims, width, width, groups=width, bias=False),
            pointwise=convolution(spatial_dims, width, width, bias=False),
            bn=batch_norm(spatial_dims, width, eps=_BIFPN_NORM_EPS),
            relu=nn.ReLU(inplace=True),
        )
    )


def _normalised(weight: Tensor) -> Tensor:
    positive = weight.relu()
    return positive / (positive.sum(dim=0) + _BIFPN_WEIGHT_EPS)
