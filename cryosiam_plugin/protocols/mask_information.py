"""What masks from coordinates say to their user."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Mapping

from cryosiam_plugin.convert.embeddings import coordinates_sampling_rate
from cryosiam_plugin.protocols.information import LISTED, Information, counted
from cryosiam_plugin.protocols.mask_classes import MaskClasses
from cryosiam_plugin.protocols.mask_form import EACH_SET, MAPS

#: RELION 5's particles keep a part of their orientations, and their places, for themselves.
_RELION_PARTICLES = "RelionSetOfPseudoSubtomograms"


class MaskInformation(Information):
    """Mixed into a protocol: nothing here computes, and all of it is quick."""

    _doneWord = "given masks"

    if TYPE_CHECKING:

        def _classes(self) -> MaskClasses: ...

        def _radii(self, names: Mapping[int, str]) -> dict[int, float]: ...

        def _maps(self, names: Mapping[int, str]) -> dict[int, tuple[Any, float]]: ...

        def _foundClasses(self) -> list[Any]: ...

        def _particleSets(self) -> list[Any]: ...

    def _emptyMessage(self) -> str:
        return (
            "There are no masks: none of the particles is in these tomograms. Particles and "
            "tomograms belong together by their tilt-series identifier (tsId)."
        )

    def _validate(self) -> list[str]:
        sets = self._particleSets()
        if not sets or any(particles is None for particles in sets):
            return ["Give the particles; wait for the protocol that makes them."]
        if any(particles.isStreamOpen() for particles in sets):
            return ["Particles are still coming in: wait for the protocol that makes them."]
        problems = []
        for particles in sets:
            try:
                coordinates_sampling_rate(particles)
            except ValueError as error:
                problems.append(str(error))
        if self.inputTomograms.get() is None:
            problems.append(
                "The tomograms of the first set of particles are not in the project any more: "
                "choose others."
            )
        if not problems:
            problems += self._settingsProblems()
        return problems

    def _settingsProblems(self) -> list[str]:
        try:
            names = self._classes().names
        except ValueError as error:
            return [f"*Classes*: {error}"]
        try:
            if self.shapes.get() != MAPS:
                self._radii(names)
                return []
            self._maps(names)
        except ValueError as error:
            field = "Average maps" if self.shapes.get() == MAPS else "Radius"
            return [f"*{field}*: {error}"]
        if any(s.getClassName() == _RELION_PARTICLES for s in self._particleSets()):
            return [
                "RELION 5's particles keep their orientations in two parts. Run reliontomo's "
                "_export 3D coordinates from Relion particles_ and give its coordinates."
            ]
        return []

    def _warnings(self) -> list[str]:
        warnings = []
        found, tomograms = self._foundClasses(), self.inputTomograms.get()
        for number, classes in enumerate(found, 1):
            names = sorted({one.name or f"group {one.group}" for one in classes})
            if self.classesFrom.get() == EACH_SET and len(names) > 1:
                warnings.append(
                    f"The particles of set {number} are of {len(names)} classes "
                    f"({', '.join(names[:LISTED])}), which become one: choose that the particles "
                    "have classes to keep them apart."
                )
        if self.shapes.get() != MAPS:
            voxel_size, names_of = tomograms.getSamplingRate(), self._classes().names
            warnings += [
                f"A radius of {radius:g} Å is less than a voxel ({voxel_size:.2f} Å): every "
                f"{names_of[label]} becomes a single voxel."
                for label, radius in self._radii(names_of).items()
                if radius < voxel_size
            ]
        return warnings

    def _resultLines(self) -> list[str]:
        text = self.maskRecord.get()
        if not text:
            return []
        record = json.loads(text)
        names, lines = record["names"], []
        for label, number in record["numbers"].items():
            lines.append(f"{label} = {names[label]}: {counted(number, 'particle')}.")
        if record["empty"]:
            lines.append(f"{counted(record['empty'], 'mask')} without particles.")
        for label in record["unturned"]:
            lines.append(
                f"*All particles of the class {names[str(label)]} are unturned*: they may never "
                "have been aligned."
            )
        missing = record["elsewhere"]
        if missing:
            number = counted(sum(missing.values()), "particle")
            where = ", ".join(sorted(missing)[:LISTED])
            lines.append(f"*Left out*: {number} in tomograms that are not in the set ({where}).")
        return lines

    def _methodsSettings(self) -> str:
        try:
            names = self._classes().names
            if self.shapes.get() == MAPS:
                values = {n: f"{t:g}" for n, (_, t) in self._maps(names).items()}
                how = "with the average maps, placed at the particles as they are turned, cut at "
            else:
                values = {n: f"{radius:g} Å" for n, radius in self._radii(names).items()}
                how = "with spheres at the particles, of a radius of "
        except (AttributeError, ValueError):
            # The inputs are not in the project any more.
            return ""
        listed = ", ".join(f"{values[n]} ({names[n]})" for n in sorted(names))
        return f"{how}{listed}, "
