"""Batch normalisation over the batches of all processes, also on CPUs.

PyTorch's own exists for GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOfAll(torch.autograd.Function):
    """Sum over all processes, with the gradient of all of them."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _sum_of_all(own: Tensor) -> Tensor:
    total: Tensor = _SumOfAll.apply(own)
    return total


class SynchronisedNorm(_BatchNorm):
    """Normalises by mean and variance of all processes; same state as the one it stands for."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(b, channels, ...)``."""
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = input.new_full((1,), float(input.numel() // input.shape[1]))
        total = _sum_of_all(torch.cat([input.sum(axes), count]))
        mean, n = total[:-1] / total[-1], total[-1]
        # Not the mean of squares less the squared mean, which loses digits.
        deviation = input - mean.view(shape)
        variance = _sum_of_all(deviation.square().sum(axes)) / n
        self._remember(mean.detach(), variance.detach() * n.detach() / (n.detach() - 1))
        scale = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return deviation * scale.view(shape)
        return deviation * (scale * self.weight).view(shape) + self.bias.view(shape)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def synchronise(module: nn.Module) -> None:
    """Replace every batch normalisation inside of a module, in place; parameters are kept."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            other = SynchronisedNorm(child.num_features, child.eps, child.momentum, child.affine)
            other.weight, other.bias = child.weight, child.bias
            other.running_mean, other.running_var = child.running_mean, child.running_var
            other.num_batches_tracked = child.num_batches_tracked
            other.train(child.training)
            setattr(module, name, other)
        else:
            synchronise(child)
