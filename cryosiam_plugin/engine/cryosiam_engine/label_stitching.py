"""From the logits of tiles to the labels of a tomogram, on the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.hdf5 import StreamedDatasets
from cryosiam_engine.label_files import label_dtype
from cryosiam_engine.sliding_window import SlidingWindow
from cryosiam_engine.tiling import Region

#: Class probabilities of this many floats are held at once while labels are decided.
PROBABILITY_FLOATS = 16_000_000


class LabelStitcher:
    """Turns the logits of tiles into labels and puts them where they belong.

    Nothing here waits for the device, except where probability maps go to disk.

    Parameters
    ----------
    window
        Where the tiles are computed.
    shape
        Of the tomogram, (z, y, x).
    threshold
        Probability from which a voxel belongs to a class.
    mask
        Multiplies all results; (z, y, x).
    lamella
        Keep the first class's probability too, for the lamella's clean-up.
    confidence
        Keep the probability of each voxel's own class too.
    maps
        Open file whose datasets ``probs`` and ``distances`` (classes, z, y, x) are filled.

    Attributes
    ----------
    is_finite
        One boolean: whether every logit seen was a finite number.
    """

    def __init__(
        self,
        window: SlidingWindow,
        shape: tuple[int, ...],
        threshold: float,
        *,
        mask: NDArray[np.integer] | None,
        lamella: bool,
        confidence: bool,
        maps: StreamedDatasets | None,
    ) -> None:
        self._n_classes = window.network.out_channels
        self._threshold = threshold
        self._labels = window.canvas(shape, _torch_label_dtype(self._n_classes))
        self._lamella = window.canvas(shape, torch.float32) if lamella else None
        self._confidence = window.canvas(shape, torch.int8) if confidence else None
        self._mask = None if mask is None else torch.from_numpy(mask)
        self._maps = maps
        self.is_finite = torch.ones((), dtype=torch.bool, device=window.device)

    def keep(self, region: Region, outputs: Mapping[str, Tensor]) -> None:
        """Take the logits and distances of some voxels, each (classes, z, y, x)."""
        logits = outputs["logits"]
        self.is_finite &= logits.isfinite().all()
        mask = None if self._mask is None else self._mask[region].to(logits.device)
        labels, certainty = classify(logits, self._threshold)
        if mask is not None:
            labels = labels.int() * mask
        self._labels[region] = labels
        if self._confidence is not None:
            self._confidence[region] = (certainty * 100 * (labels > 0)).round().to(torch.int8)
        if self._lamella is not None:
            self._lamella[region] = _masked(probabilities(logits)[0], mask)
        if self._maps is not None:
            where = (slice(None), *region)
            for name, values in (
                ("probs", probabilities(logits)),
                ("distances", outputs["distances"]),
            ):
                self._maps.write(name, where, _masked(values, mask).cpu().numpy())

    def labels(self) -> NDArray[np.integer]:
        """The labels (z, y, x) on the host, in the smallest type that holds every class."""
        return self._labels.cpu().numpy().astype(label_dtype(self._n_classes), copy=False)

    def confidence(self) -> NDArray[np.int8] | None:
        """The probability (%) of each voxel's class, 0 in the background; None if not asked for."""
        return None if self._confidence is None else self._confidence.cpu().numpy()

    def lamella(self) -> NDArray[np.float32]:
        """The first class's probability (z, y, x) on the host.

        Raises
        ------
        ValueError
            When it was not asked for.
        """
        if self._lamella is None:
            raise ValueError("the lamella's probability was not kept")
        return self._lamella.cpu().numpy()


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities of logits (classes, z, y, x): sigmoid of one class, softmax of more."""
    return logits.sigmoid() if logits.shape[0] == 1 else logits.softmax(0)


def classify(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The label of every voxel, and how probable it is.

    One class: 1 where its probability exceeds the threshold. Several: the most probable class
    where its probability reaches the threshold, else 0. Done section by section, so that the
    probabilities of many classes never exist for a whole tile.

    Parameters
    ----------
    logits
        (classes, z, y, x).
    threshold
        Probability in [0, 1].

    Returns
    -------
    labels : Tensor
        (z, y, x), uint8 for up to 256 classes, else int32, on the device of `logits`.
    certainty : Tensor
        Probability (z, y, x) of the most probable class, also where that is below the threshold.
    """
    n_classes, depth = logits.shape[:2]
    if n_classes == 1:
        probability = logits[0].sigmoid()
        return (probability > threshold).to(torch.uint8), probability
    labels = torch.empty(
        logits.shape[1:], dtype=_torch_label_dtype(n_classes), device=logits.device
    )
    certainty = torch.empty(logits.shape[1:], device=logits.device)
    step = max(1, PROBABILITY_FLOATS // (n_classes * logits.shape[2] * logits.shape[3]))
    for start in range(0, depth, step):
        sections = slice(start, start + step)
        best, index = logits[:, sections].softmax(0).max(0)
        labels[sections] = torch.where(best >= threshold, index, 0).to(labels.dtype)
        certainty[sections] = best
    return labels, certainty


def _torch_label_dtype(n_classes: int) -> torch.dtype:
    return torch.uint8 if n_classes <= 256 else torch.int32


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask
