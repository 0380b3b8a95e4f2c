"""Training and validation samples of the dense tasks, made from volumes patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.training.geometry import Geometry, draw_geometry
from cryosiam_engine.training.grey_values import GreyValues, normalised, scaled
from cryosiam_engine.training.order import SampleKey
from cryosiam_engine.training.targets import (
    INSTANCE_MARGIN,
    LARGEST_DISTANCE,
    class_distances,
    distance_margin,
    instance_targets,
    scaled_distances,
)
from cryosiam_engine.training.volumes import (
    DISTANCES,
    IMAGE,
    LABELS,
    NOISY,
    TARGET,
    TrainingVolume,
)

Sample = dict[str, Tensor]
_Arrays = dict[str, NDArray[Any]]

_UNCHANGED = Geometry(np.eye(3), 1.0, None, ())
#: A noisy image stands for the clean one in one of so many samples.
_NOISY_IN_TRAINING, _NOISY_IN_VALIDATION = 3, 2


class Places(Protocol):
    """Says where the patches of an epoch are."""

    def __len__(self) -> int:
        """Patches of an epoch."""

    def place(self, key: SampleKey, rng: np.random.Generator) -> tuple[int, Sequence[int]]:
        """Number of a volume, and the middle (z, y, x) of a patch in it."""


@dataclass(frozen=True)
class PatchSamples(Dataset[Sample]):
    """Patches as the network gets them, with what it shall answer.

    A sample depends on seed, epoch and its number alone: not on what was drawn before, nor on
    which process draws it. So a training that goes on later sees what it would have seen.

    Attributes
    ----------
    config
        Of the training.
    volumes
        Where patches come from.
    places
        Which patches.
    varied
        Whether they are augmented: for training, not for validation.
    """

    config: TrainConfig
    volumes: Sequence[TrainingVolume]
    places: Places
    varied: bool

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Make the sample ``(epoch, number)``: float32 ``(channels, z, y, x)``, labels int64."""
        rng = np.random.default_rng([self.config.seed, int(self.varied), *key])
        number, centre = self.places.place(key, rng)
        shape = self.config.patches.patch_size
        geometry = _UNCHANGED
        if self.varied:
            geometry = draw_geometry(rng, self.config.transforms, shape)
        arrays = self._cut(self.volumes[number], centre, geometry)
        for name in (IMAGE, NOISY, TARGET):
            if name in arrays:
                arrays[name] = scaled(arrays[name], self.config.patches)
        arrays = geometry.apply(arrays, shape, self._label_margin)
        self._choose_input(arrays, key, rng)
        self._vary_grey_values(arrays, rng)
        return self._tensors(arrays)

    @property
    def _label_margin(self) -> int:
        """Voxels around a patch whose labels are needed after it was turned."""
        return INSTANCE_MARGIN if self.config.task == "instance" else 0

    def _cut(self, volume: TrainingVolume, centre: Sequence[int], geometry: Geometry) -> _Arrays:
        z, y, x = (size + 2 * self._label_margin for size in self.config.patches.patch_size)
        shape = geometry.source_shape((z, y, x))
        network = self.config.network
        if self.config.task != "semantic" or not network.distance_prediction:
            return volume.cut(centre, shape)
        if volume.distances is not None:
            return volume.cut(centre, shape)
        # What becomes smaller must be known from further away.
        limit = LARGEST_DISTANCE / min(1.0, geometry.zoom)
        margin = distance_margin(limit)
        z, y, x = (size + 2 * margin for size in shape)
        wide = volume.cut(centre, (z, y, x))
        inner = slice(margin, -margin)
        arrays: _Arrays = {name: array[..., inner, inner, inner] for name, array in wide.items()}
        distances = class_distances(wide[LABELS], network.out_channels, limit)
        return {**arrays, DISTANCES: distances[:, inner, inner, inner]}

    def _choose_input(self, arrays: _Arrays, key: SampleKey, rng: np.random.Generator) -> None:
        """Leave one input: the noisy one at times, if there is one and it is asked for."""
        noisy = arrays.pop(NOISY, None)
        if self.config.task == "denoising" and TARGET not in arrays:
            arrays[TARGET] = arrays[IMAGE]
        if noisy is None or not self.config.transforms.use_noisy_input:
            return
        if self.varied:
            is_noisy = rng.integers(_NOISY_IN_TRAINING) == 0
        else:
            is_noisy = key[1] % _NOISY_IN_VALIDATION == 1
        if is_noisy:
            arrays[IMAGE] = noisy

    def _vary_grey_values(self, arrays: _Arrays, rng: np.random.Generator) -> None:
        image = arrays[IMAGE]
        if self.varied:
            # After the turning, so that fewer voxels are filtered.
            varying = GreyValues(self.config.transforms)
            image = varying.rescaled(varying.filtered(image, rng), rng)
        arrays[IMAGE] = normalised(image, self.config.patches)
        if TARGET in arrays:
            arrays[TARGET] = normalised(arrays[TARGET], self.config.patches)

    def _tensors(self, arrays: _Arrays) -> Sample:
        sample = {IMAGE: _tensor(arrays[IMAGE])}
        if self.config.task == "denoising":
            return {**sample, TARGET: _tensor(arrays[TARGET])}
        if self.config.task == "instance":
            inner = (slice(INSTANCE_MARGIN, -INSTANCE_MARGIN),) * 3
            targets = instance_targets(arrays[LABELS])
            return {**sample, **{name: _tensor(array[inner]) for name, array in targets.items()}}
        sample[LABELS] = torch.from_numpy(arrays[LABELS].astype(np.int64))
        if DISTANCES in arrays and self.config.network.distance_prediction:
            sample[DISTANCES] = torch.from_numpy(scaled_distances(arrays[DISTANCES]))
        return sample


def _tensor(volume: NDArray[Any]) -> Tensor:
    """One channel `(1, z, y, x)`."""
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
