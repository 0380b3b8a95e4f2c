"""Pairs of views of the same particle, for the training of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.embeddings.instance_patches import InstanceCutter
from cryosiam_engine.embeddings.patches import Box, cut_patch
from cryosiam_engine.embeddings.regions import boxes_of, select_by_size
from cryosiam_engine.training.following import followed
from cryosiam_engine.training.geometry import draw_geometry
from cryosiam_engine.training.grey_values import GreyValues, normalised, scaled
from cryosiam_engine.training.instance_boxes import instance_boxes
from cryosiam_engine.training.mapped_volume import mapped_volume
from cryosiam_engine.training.order import SampleKey, Shuffled
from cryosiam_engine.training.volumes import IMAGE, LABELS, TrainingVolume

#: Seeds of training and of validation views differ.
_VALIDATION, _TRAINING = 0, 1


@dataclass(frozen=True)
class Particle:
    """One instance: the number of its volume, its label and its bounding box."""

    volume: int
    label: int
    box: Box


def find_particles(volumes: Sequence[TrainingVolume], config: TrainConfig) -> list[Particle]:
    """List the instances of all volumes that are neither too small nor too large.

    Parameters
    ----------
    volumes
        With instances as labels; those whose box's middle is in the volume's region count.
    config
        Sizes in voxels.

    Raises
    ------
    MaskError
        When the labels are negative, fractional or not finite.
    """
    particles = []
    for number, volume in enumerate(followed(volumes, "Looking for particles")):
        table = select_by_size(
            instance_boxes(volume.files[LABELS]), config.min_particle_size, config.max_particle_size
        )
        for label, box in zip(table["label"].tolist(), boxes_of(table), strict=True):
            middle = [(a + b) // 2 for a, b in zip(box.start, box.stop, strict=True)]
            limits = zip(volume.region.start, middle, volume.region.stop, strict=True)
            if all(first <= voxel < end for first, voxel, end in limits):
                particles.append(Particle(number, int(label), box))
    return particles


class ViewPairs(Dataset[dict[str, Tensor]]):
    """Two differently varied views of each particle, cut out and masked as for prediction.

    Parameters
    ----------
    config
        Of the training.
    volumes
        Tomograms and their instances.
    particles
        Of these volumes.
    varied
        True for training: another order in every epoch. False for validation: the views differ,
        but stay the same.
    """

    def __init__(
        self,
        config: TrainConfig,
        volumes: Sequence[TrainingVolume],
        particles: Sequence[Particle],
        *,
        varied: bool,
    ) -> None:
        self._config, self._volumes, self._particles = config, volumes, particles
        self._grey_values = GreyValues(config.transforms)
        self._stream = _TRAINING if varied else _VALIDATION
        self._order = Shuffled(len(particles), config.seed) if varied else None

    def __len__(self) -> int:
        return len(self._particles)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """``view_1`` and ``view_2``, float32 `(1, z, y, x)`."""
        rng = np.random.default_rng([self._config.seed, self._stream, *key])
        number = key[1] if self._order is None else self._order[key]
        patch, kept = self._cut(self._particles[number])
        return {view: self._view(patch, kept, rng) for view in ("view_1", "view_2")}

    def _cut(self, particle: Particle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The particle's box, from 0 to 1, and 1 where its voxels count; zeros around the box."""
        volume, box = self._volumes[particle.volume], particle.box
        voxels = {
            name: np.asarray(mapped_volume(volume.files[name])[box.slices])
            for name in (IMAGE, LABELS)
        }
        patches, whole = self._config.patches, Box((0, 0, 0), box.shape)
        image = scaled(voxels[IMAGE].astype(np.float32), patches)
        labels = np.rint(voxels[LABELS]).astype(np.int64)
        everywhere = np.ones(box.shape, np.float32)
        masking = self._config.masking_type
        cutter = InstanceCutter(everywhere, labels, patches.patch_size, masking, 0.0, False)
        kept, _ = cutter.cut(particle.label, whole)
        return cut_patch(image, whole, patches.patch_size), kept

    def _view(
        self, patch: NDArray[np.float32], kept: NDArray[np.float32], rng: np.random.Generator
    ) -> Tensor:
        settings = self._config.patches
        geometry = draw_geometry(rng, self._config.transforms, settings.patch_size)
        # The mask as labels, so that it keeps its sharp edge.
        arrays: dict[str, NDArray[Any]] = {IMAGE: patch, LABELS: kept.astype(np.int32)}
        arrays = geometry.apply(arrays, settings.patch_size)
        view = self._grey_values.filtered(arrays[IMAGE], rng)
        view = self._grey_values.rescaled(view, rng)
        # Masked at the end, as for a prediction: what is not the particle's is 0.
        view = normalised(view, settings) * arrays[LABELS]
        return torch.from_numpy(np.ascontiguousarray(view, dtype=np.float32))[None]
