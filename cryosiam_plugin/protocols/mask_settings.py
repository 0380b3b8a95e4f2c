"""What masks are to be drawn, as the form and the particles say."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np
from pyworkflow.object import Pointer
from tomo.objects import SetOfSubTomograms

from cryosiam_plugin.convert.mask_particles import (
    FoundClass,
    MaskParticle,
    Target,
    classes_in,
    particles_of,
)
from cryosiam_plugin.protocols.mask_classes import (
    MaskClasses,
    classes_of_particles,
    classes_of_sets,
)
from cryosiam_plugin.protocols.mask_form import EACH_SET, MAPS, RADII_EXAMPLE, THRESHOLDS_EXAMPLE
from cryosiam_plugin.protocols.mask_runs import Drawing
from cryosiam_plugin.protocols.mask_values import values_of_classes
from cryosiam_plugin.protocols.part import ProtocolPart

#: Å divided by Å shall not make 9.9999999 voxels of 10.
_DECIMALS = 6


class MaskSettings(ProtocolPart):
    """Mixed into a protocol: its form's values, with their meaning.

    The protocol has a String attribute `maskRecord`.
    """

    if TYPE_CHECKING:

        def _fail(self, tsId: str, reason: str) -> None: ...

    @property
    def inputTomograms(self) -> Pointer:
        """The tomograms that get masks: the reference, or those that the particles are in."""
        if self.referenceTomograms.hasValue():
            return self.referenceTomograms
        sources = [pointer.get() for pointer in self._particlePointers()]
        return precedents_of(sources[0]) if sources else Pointer()

    def _particlePointers(self) -> list[Any]:
        return list(self.inputCoordinates)

    def _particleSets(self) -> list[Any]:
        return [pointer.get() for pointer in self._particlePointers()]

    def _foundClasses(self) -> list[list[FoundClass]]:
        return [classes_in(particles, n) for n, particles in enumerate(self._particleSets())]

    def _classes(self) -> MaskClasses:
        """The classes of the masks.

        Raises
        ------
        ValueError
            When the form asks for classes that there are not.
        """
        of_what = classes_of_sets if self.classesFrom.get() == EACH_SET else classes_of_particles
        return of_what(self.classNames.get() or "", self._foundClasses())

    def _radii(self, names: Mapping[int, str]) -> dict[int, float]:
        """Å by label.

        Raises
        ------
        ValueError
            When the form's values make no sense.
        """
        radii = values_of_classes(self.radii.get() or "", names, RADII_EXAMPLE)
        if min(radii.values()) <= 0:
            raise ValueError("A radius must be more than 0 Å.")
        return radii

    def _radiiInVoxels(self, names: Mapping[int, str]) -> dict[int, float]:
        voxel_size = self.inputTomograms.get().getSamplingRate()
        return {
            n: round(radius / voxel_size, _DECIMALS) for n, radius in self._radii(names).items()
        }

    def _maps(self, names: Mapping[int, str]) -> dict[int, tuple[Any, float]]:
        """Average map and threshold by label.

        Raises
        ------
        ValueError
            When the form's values make no sense.
        """
        volumes = [pointer.get() for pointer in self.inputMaps]
        if len(volumes) != len(names):
            listed = ", ".join(names[label] for label in sorted(names))
            raise ValueError(
                f"{len(volumes)} average maps for {len(names)} classes ({listed}): give one for "
                "each, in this order."
            )
        thresholds = values_of_classes(self.thresholds.get() or "", names, THRESHOLDS_EXAMPLE)
        return {n: (volume, thresholds[n]) for n, volume in zip(sorted(names), volumes)}

    def _configuration(self) -> dict[str, Any]:
        """Everything that decides what the masks are: results of others are not mixed in."""
        names = self._classes().names
        keys: dict[str, Any] = {
            "tomograms": self.inputTomograms.get().getFileName(),
            "particles": [[s.getFileName(), s.getSize()] for s in self._particleSets()],
            "classes": names,
            "classes_from": ("sets", "particles")[self.classesFrom.get()],
            "empty_masks": bool(self.emptyMasks.get()),
        }
        if self.shapes.get() == MAPS:
            maps = self._maps(names)
            keys["maps"] = {
                n: [v.getFileName(), v.getSamplingRate(), t] for n, (v, t) in maps.items()
            }
        else:
            keys["radii"] = self._radii(names)
        return keys

    def _drawing(self, classes: MaskClasses, targets: Mapping[str, Target]) -> Drawing:
        """Look up the particles; a tomogram that all of its particles miss has failed."""
        particles: dict[str, list[MaskParticle]] = {}
        elsewhere: dict[str, int] = {}
        for source, particle_set in enumerate(self._particleSets()):
            for found in particles_of(particle_set, classes.label_of(source), targets):
                if isinstance(found, str):
                    elsewhere[found] = elsewhere.get(found, 0) + 1
                else:
                    particles.setdefault(found.tsId, []).append(found)
        empty = len(set(targets) - set(particles)) if self.emptyMasks.get() else 0
        self._note(classes, particles, elsewhere, empty)
        reach = self._reaches(classes.names)
        for tsId, mine in list(particles.items()):
            if all(_misses(p, targets[tsId].shape, reach[p.label]) for p in mine):
                del particles[tsId]
                self._fail(
                    tsId,
                    f"All of its {len(mine)} particles are outside of the tomogram. They may be "
                    "of another tomogram with this name, or their voxel size is not what Scipion "
                    "takes it for.",
                )
        return Drawing(classes.names, particles)

    def _reaches(self, names: Mapping[int, str]) -> dict[int, float]:
        """How far from its centre a particle may have voxels, in voxels, by label."""
        if self.shapes.get() != MAPS:
            return self._radiiInVoxels(names)
        reaches = {}
        for label, (volume, _) in self._maps(names).items():
            size = volume.getDim()
            if size is None:
                raise ValueError(f"The average map {volume.getFileName()} cannot be read.")
            scale = volume.getSamplingRate() / self.inputTomograms.get().getSamplingRate()
            reaches[label] = scale * math.hypot(*size) / 2
        return reaches

    def _note(
        self,
        classes: MaskClasses,
        particles: Mapping[str, Sequence[MaskParticle]],
        elsewhere: Mapping[str, int],
        empty: int,
    ) -> None:
        numbers = dict.fromkeys(classes.names, 0)
        turned: set[int] = set()
        for particle in (p for found in particles.values() for p in found):
            numbers[particle.label] += 1
            if not np.allclose(particle.rotation, np.eye(3), atol=1e-6):
                turned.add(particle.label)
        unturned = [label for label, number in numbers.items() if number and label not in turned]
        record = {
            "names": classes.names,
            "numbers": numbers,
            "elsewhere": elsewhere,
            "empty": empty,
            "unturned": unturned if self.shapes.get() == MAPS else [],
        }
        self.maskRecord.set(json.dumps(record, ensure_ascii=False))
        self._store(self.maskRecord)


def precedents_of(particles: Any) -> Pointer:
    """Pointer to the tomograms that a set of coordinates or subtomograms comes from."""
    if isinstance(particles, SetOfSubTomograms):
        particles = particles.getCoordinates3D()
    return Pointer() if particles is None else particles._precedentsPointer


def _misses(particle: MaskParticle, shape: Sequence[int], reach: float) -> bool:
    return any(i + reach < 0 or i - reach > n - 1 for i, n in zip(particle.centre, shape))
