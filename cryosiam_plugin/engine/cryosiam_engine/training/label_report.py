"""What the labels of a training are like: told before hours are spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.training.label_checks import FoundLabels
from cryosiam_engine.training.volumes import IMAGE, TrainingVolume
from cryosiam_engine.volume import VolumeHeader, read_header

#: Voxel sizes that differ by less are the same, rounded.
_TOLERANCE = 0.01
#: A class with less than this part of the voxels is called rare.
_RARE = 1e-4


@dataclass
class LabelReport:
    """Voxels of each class, by tomogram, and what looks wrong."""

    voxels: dict[str, dict[int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def report_labels(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    found: FoundLabels,
) -> LabelReport:
    """Count the voxels of every class, and compare what the headers of all files say.

    Parameters
    ----------
    config
        Of the training.
    training, validation
        The volumes.
    found
        What is in them.
    """
    volumes = [*training, *validation]
    report = LabelReport(warnings=_geometry_warnings(volumes))
    labels = [*found.training, *found.validation]
    if not labels:
        return report
    for volume, one in zip(volumes, labels, strict=True):
        counts = report.voxels.setdefault(volume.stem, {})
        for label, count in one.counts.items():
            counts[label] = counts.get(label, 0) + count
    report.warnings += _class_warnings(config, report.voxels)
    return report


def _class_warnings(config: TrainConfig, voxels: dict[str, dict[int, int]]) -> list[str]:
    totals: dict[int, int] = {}
    warnings = []
    for stem, counts in voxels.items():
        if not any(counts.get(label, 0) for label in counts if label):
            warnings.append(f"{stem} has no labels but the background.")
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    n_voxels = sum(totals.values())
    n_classes = max(config.network.out_channels, 2) if config.task == "semantic" else 2
    for label in range(n_classes):
        count = totals.get(label, 0)
        if not count:
            warnings.append(f"Class {label} is in none of the tomograms.")
        elif count < _RARE * n_voxels:
            warnings.append(f"Class {label} is rare: {count} voxels of {n_voxels}.")
    return warnings


def _geometry_warnings(volumes: Sequence[TrainingVolume]) -> list[str]:
    warnings = []
    reference: tuple[Path, float] | None = None
    for volume in volumes:
        image = read_header(volume.files[IMAGE])
        own = image.voxel_size[0]
        if not own:
            warnings.append(f"{volume.files[IMAGE]} does not say its voxel size.")
            continue
        reference = reference or (volume.files[IMAGE], own)
        if _differ(own, reference[1]):
            warnings.append(
                f"{volume.files[IMAGE]} has voxels of {own:g} Å, {reference[0].name} of "
                f"{reference[1]:g} Å: a network learns one size of things."
            )
        for kind, path in volume.files.items():
            if kind != IMAGE:
                warnings += _misfits(path, read_header(path), image)
    return warnings


def _misfits(path: Path, other: VolumeHeader, image: VolumeHeader) -> list[str]:
    """What a file's header says against its belonging to a tomogram; zeros say nothing."""
    own, warnings = image.voxel_size[0], []
    if other.voxel_size[0] and _differ(own, other.voxel_size[0]):
        warnings.append(f"{path} has voxels of {other.voxel_size[0]:g} Å, its tomogram {own:g} Å.")
    apart = [abs(a - b) for a, b in zip(other.origin, image.origin, strict=True)]
    if any(other.origin) and max(apart) > own:
        places = [", ".join(f"{value:g}" for value in h.origin) for h in (other, image)]
        warnings.append(
            f"{path} lies elsewhere than its tomogram: it begins at ({places[0]}) Å, the tomogram "
            f"at ({places[1]}) Å."
        )
    return warnings


def _differ(one: float, other: float) -> bool:
    return abs(one / other - 1) > _TOLERANCE
