"""Grey values of training patches: blurred, band-passed, noisier, brighter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryosiam_engine.config.base import Intensity
from cryosiam_engine.config.train import Transforms
from cryosiam_engine.training.geometry import PROBABILITY

_Volume = NDArray[np.float32]


def scaled(patch: _Volume, intensity: Intensity) -> _Volume:
    """Scale [min, max] to [0, 1] with clipping, as whole tomograms are before prediction."""
    span = np.float32(intensity.max) - np.float32(intensity.min)
    patch = patch - np.float32(intensity.min)
    return np.clip(patch / span, 0, 1) if span != 0 else patch


def normalised(patch: _Volume, intensity: Intensity) -> _Volume:
    """Subtract mean and divide by std, both given."""
    return (patch - np.float32(intensity.mean or 0)) / np.float32(intensity.std or 1)


@dataclass(frozen=True)
class GreyValues:
    """Varies the grey values of one patch at a time."""

    settings: Transforms

    def filtered(self, patch: _Volume, rng: np.random.Generator) -> _Volume:
        """Apply one of the filters, all of them if they are combined, or none.

        Each of the filters that the settings name, and none at all, is as likely as the others.

        Parameters
        ----------
        patch
            `(z, y, x)`, within [0, 1].
        rng
            Of this one sample.
        """
        settings = self.settings
        filters = []
        if settings.low_pass_sigma_range is not None:
            filters.append(self._low_pass)
        if settings.high_pass_sigma_range and settings.high_pass_sigma2_range:
            filters.append(self._band_pass)
        if settings.noise_sigma_range is not None:
            filters.append(self._noise)
        if not filters:
            return patch
        n_choices = len(filters) + 1 + settings.combine_transforms
        choice = int(rng.integers(n_choices))
        chosen = filters if choice > len(filters) else filters[choice : choice + 1]
        for apply in chosen:
            patch = apply(patch, rng)
        return patch

    def rescaled(self, patch: _Volume, rng: np.random.Generator) -> _Volume:
        """Multiply by 1 + a factor drawn from ``scale_intensity_factors``."""
        factors = self.settings.scale_intensity_factors
        if factors is None or rng.random() >= PROBABILITY:
            return patch
        return patch * np.float32(1 + rng.uniform(*factors))

    def _low_pass(self, patch: _Volume, rng: np.random.Generator) -> _Volume:
        return _blurred(patch, rng, self.settings.low_pass_sigma_range)

    def _band_pass(self, patch: _Volume, rng: np.random.Generator) -> _Volume:
        fine = _blurred(patch, rng, self.settings.high_pass_sigma_range)
        return fine - _blurred(patch, rng, self.settings.high_pass_sigma2_range)

    def _noise(self, patch: _Volume, rng: np.random.Generator) -> _Volume:
        sigma = np.float32(rng.uniform(*(self.settings.noise_sigma_range or (0, 0))))
        noisy = patch + sigma * rng.standard_normal(patch.shape, dtype=np.float32)
        low, high = noisy.min(), noisy.max()
        return (noisy - low) / (high - low) if high > low else noisy


def _blurred(
    patch: _Volume, rng: np.random.Generator, sigmas: tuple[float, float] | None
) -> _Volume:
    blurred: _Volume = gaussian_filter(patch, rng.uniform(*(sigmas or (0, 0))))
    return blurred
