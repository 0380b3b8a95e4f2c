"""In which order samples are learned: a function of seed and epoch, for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

#: What a dataset is asked for: the epoch and the number of the sample in it.
SampleKey = tuple[int, int]


class TrainingOrder(Sampler[SampleKey]):
    """The samples of one process, epoch by epoch; each batch of all processes is a full one.

    The batches of several processes together are those of one process with a larger batch, so
    that the number of processes does not change what is learned.

    Parameters
    ----------
    n_samples
        Samples of an epoch.
    batch_size
        Of one process.
    rank, world_size
        Which process this is, and of how many.
    first_epoch
        The one that a training goes on with. Workers begin to read it before anybody has chosen
        an epoch.
    """

    def __init__(
        self, n_samples: int, batch_size: int, rank: int, world_size: int, first_epoch: int = 0
    ) -> None:
        self._batch_size, self._rank, self._world = batch_size, rank, world_size
        self._n_steps = n_samples // (batch_size * world_size)
        self._epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) that the next iteration is about."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_steps * self._batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        for step in range(self._n_steps):
            first = (step * self._world + self._rank) * self._batch_size
            for index in range(first, first + self._batch_size):
                yield self._epoch, index


class ValidationOrder(Sampler[SampleKey]):
    """Every `world_size`-th sample from `rank` on, the same in every epoch."""

    def __init__(self, n_samples: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, n_samples, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[SampleKey]:
        return ((0, index) for index in self._indices)


class Shuffled:
    """A new random order of ``range(n)`` for every epoch.

    Parameters
    ----------
    n
        How many.
    seed
        With the epoch, all that the order depends on.
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, seed
        self._epoch = -1
        self._order = np.arange(n)

    def __getitem__(self, key: SampleKey) -> int:
        epoch, index = key
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._n)
            self._epoch = epoch
        return int(self._order[index])
