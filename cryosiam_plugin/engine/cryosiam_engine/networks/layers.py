"""The few layers that every part of the networks is made of, for 2 or 3 spatial dimensions."""

from __future__ import annotations

from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn


def convolution(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Convolution, zero-padded by half its kernel, so that stride 1 keeps the size."""
    return Conv[Conv.CONV, spatial_dims](
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=bias,
    )


def batch_norm(
    spatial_dims: int, channels: int, *, affine: bool = True, eps: float = 1e-5
) -> nn.Module:
    """Batch normalisation over the given number of spatial dimensions."""
    return Norm[Norm.BATCH, spatial_dims](channels, affine=affine, eps=eps)


def subsample(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th voxel of ``(b, channels, z, y, x)`` along each axis, from the first on."""
    everything = slice(None)
    places = (everything, everything, *[slice(None, None, stride)] * (x.ndim - 2))
    return x[places]


def voxel_projector(spatial_dims: int, channels: int, out_channels: int) -> nn.Sequential:
    """Three 1-convolutions with batch normalisation, the last one without scale and shift."""
    return nn.Sequential(
        convolution(spatial_dims, channels, channels, bias=False),
        batch_norm(spatial_dims, channels),
        nn.ReLU(inplace=True),
        convolution(spatial_dims, channels, channels, bias=False),
        batch_norm(spatial_dims, channels),
        nn.ReLU(inplace=True),
        convolution(spatial_dims, channels, out_channels),
        batch_norm(spatial_dims, out_channels, affine=False),
    )


def voxel_predictor(spatial_dims: int, channels: int, hidden_channels: int) -> nn.Sequential:
    """Two 1-convolutions through a bottleneck, back to the same width."""
    return nn.Sequential(
        convolution(spatial_dims, channels, hidden_channels, bias=False),
        batch_norm(spatial_dims, hidden_channels),
        nn.ReLU(inplace=True),
        convolution(spatial_dims, hidden_channels, channels),
    )


def global_projector(channels: int, last: nn.Linear) -> nn.Sequential:
    """Project a pooled vector as :func:`voxel_projector` does a voxel; `last` sets the width."""
    return nn.Sequential(
        nn.Linear(channels, channels, bias=False),
        nn.BatchNorm1d(channels),
        nn.ReLU(inplace=True),
        nn.Linear(channels, channels, bias=False),
        nn.BatchNorm1d(channels),
        nn.ReLU(inplace=True),
        last,
        nn.BatchNorm1d(last.out_features, affine=False),
    )


def global_predictor(channels: int, hidden_channels: int) -> nn.Sequential:
    """Predict one projected vector from another, through a bottleneck."""
    return nn.Sequential(
        nn.Linear(channels, hidden_channels, bias=False),
        nn.BatchNorm1d(hidden_channels),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_channels, channels),
    )
