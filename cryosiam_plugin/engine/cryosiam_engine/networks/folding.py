"""Fewer and cheaper layers with the same result, for inference.

Batch normalisation with stored statistics is a linear map, so it is folded into the convolution
before it; and a residual block whose shortcut and last convolution both have kernel 1 computes the
two as one convolution, which saves two passes over the largest maps of the network.
"""

from __future__ import annotations

import copy

import torch
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cryosiam_engine.networks.layers import subsample


def fold(module: nn.Module) -> nn.Module:
    """Fold all batch normalisations of a module in evaluation mode.

    Parameters
    ----------
    module
        Changed in place where its children can be, so use only what is returned.

    Returns
    -------
    nn.Module
        Computes the same up to rounding; cannot be trained or saved under the same names.
    """
    if isinstance(module, ResNetBottleneck | ResNetBlock):
        return _folded_block(module)
    for name, child in module.named_children():
        setattr(module, name, fold(child))
    return _folded_sequence(*module) if isinstance(module, nn.Sequential) else module


class ResidualBlock(nn.Module):
    """ReLU(main(x) + shortcut(x))."""

    def __init__(self, main: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's output from ``(b, channels, z, y, x)``."""
        out: Tensor = self.main(x)
        out += self.shortcut(x)
        return out.relu_()


class MergedResidualBlock(nn.Module):
    """As :class:`ResidualBlock`, with `main`'s last convolution and the shortcut as one.

    Parameters
    ----------
    main
        The layers of the main path without the last convolution.
    last, shortcut
        Convolutions of kernel 1, to the same number of channels; the shortcut may have a stride.
    """

    def __init__(self, main: nn.Sequential, last: _ConvNd, shortcut: _ConvNd) -> None:
        super().__init__()
        self.main = main
        self.merged = _side_by_side(last, shortcut)
        self.stride = shortcut.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's output from ``(b, channels, z, y, x)``."""
        both = torch.cat([self.main(x), subsample(x, self.stride)], dim=1)
        out: Tensor = self.merged(both)
        return out.relu_()


def _folded_block(block: ResNetBottleneck | ResNetBlock) -> nn.Module:
    names = "123" if isinstance(block, ResNetBottleneck) else "12"
    *inner, last = [
        _fused(block.get_submodule(f"conv{name}"), block.get_submodule(f"bn{name}"))
        for name in names
    ]
    main = [layer for convolution in inner for layer in (convolution, nn.ReLU(inplace=True))]
    if block.downsample is None:
        return ResidualBlock(nn.Sequential(*main, last), nn.Identity())
    shortcut = _fused(*block.get_submodule("downsample").children())
    if isinstance(block, ResNetBottleneck):
        return MergedResidualBlock(nn.Sequential(*main), last, shortcut)
    return ResidualBlock(nn.Sequential(*main, last), shortcut)


def _folded_sequence(*layers: nn.Module) -> nn.Sequential:
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, _BatchNorm):
            folded[-1] = _fused(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _fused(convolution: nn.Module, norm: nn.Module) -> _ConvNd:
    if not isinstance(convolution, _ConvNd) or not isinstance(norm, _BatchNorm):
        raise TypeError("batch normalisation can only be folded into the convolution before it")
    # In double precision, so that the folded weights carry one rounding only.
    dtype = convolution.weight.dtype
    fused: _ConvNd = fuse_conv_bn_eval(convolution.double(), norm.double()).to(dtype)
    return fused


def _side_by_side(first: _ConvNd, second: _ConvNd) -> _ConvNd:
    """One convolution of kernel 1 that adds both, for the concatenation of both inputs."""
    if first.bias is None or second.bias is None:
        raise TypeError("folded convolutions have a bias")
    merged = copy.deepcopy(first)
    merged.in_channels += second.in_channels
    merged.weight = nn.Parameter(torch.cat([first.weight, second.weight], dim=1))
    merged.bias = nn.Parameter(first.bias + second.bias)
    return merged
