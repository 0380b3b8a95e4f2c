"""What the embeddings protocol says to its user."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tomo.objects import SetOfSubTomograms

from cryosiam_plugin.convert import ts_ids_of
from cryosiam_plugin.protocols.embedding_form import AS_TRAINED, MASKING_TYPES, MASKINGS
from cryosiam_plugin.protocols.information import Information, counted
from cryosiam_plugin.protocols.model_choice import chosenModel

_SAMPLING_RATES_DIFFER = 0.01
_WHOLE_BOX = 0
_LISTED = 5


class EmbeddingInformation(Information):
    """Mixed into the embeddings protocol, before its base."""

    if TYPE_CHECKING:

        def _fromParticles(self) -> bool: ...

        def _maskingType(self) -> int | None: ...

        def _trainedMasking(self) -> int | None: ...

        def _coordinatesRate(self) -> float: ...

        def _edge(self) -> int: ...

        def _mapLines(self) -> list[str]: ...

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self._fromParticles():
            return problems + self._particlesProblems()
        if not self.inputInstances.hasValue():
            problems.append("*Instance masks* cannot be empty: give the masks of the particles.")
        if not problems and self._maskingType() is None:
            problems.append(
                f"*The network sees*: nobody knows what this model was trained with. Choose "
                f"{', '.join(MASKINGS[1:-1])} or {MASKINGS[-1]}."
            )
        low, high = self.minimumVoxels.get(), self.maximumVoxels.get()
        if high and low > high:
            problems.append("*Size of the instances*: 'from' must not be larger than 'to'.")
        return problems

    def _particlesProblems(self) -> list[str]:
        if not self.inputParticles.hasValue():
            return ["*Particles* cannot be empty: give coordinates or subtomograms."]
        particles = self.inputParticles.get()
        if isinstance(particles, SetOfSubTomograms) and particles.getCoordinates3D() is None:
            return [
                "These subtomograms do not know where in the tomograms they come from. Give "
                "subtomograms that were extracted in this project, or their coordinates."
            ]
        return []

    def _warnings(self) -> list[str]:
        warnings = super()._warnings()
        trained = self._trainedMasking()
        if trained is None:
            return warnings
        model = chosenModel(self).name
        if self._fromParticles():
            if trained != _WHOLE_BOX:
                warnings.append(
                    f"The model {model} was trained on particles without their surroundings, but "
                    "around coordinates the surroundings are seen. Better take the model "
                    "embeddings-no-masking."
                )
        elif self.masking.get() != AS_TRAINED and self._maskingType() != trained:
            seen = next(number for number, kind in MASKING_TYPES.items() if kind == trained)
            warnings.append(
                f"The model {model} was trained to see of a particle: {MASKINGS[seen]}. With "
                "anything else its embeddings mean less."
            )
        return warnings

    def _noteOthers(self) -> None:
        """Say which particles lie in none of the tomograms: they are not in the result."""
        if not self._fromParticles():
            return
        others = sorted(set(ts_ids_of(self.inputParticles.get())) - set(self._feed.tomograms))
        if not others:
            return
        names = ", ".join(others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
        with self._lock:
            record = self._record()
            record["others"] = (
                f"*The particles of {counted(len(others), 'tomogram')} were left out*, since "
                f"these are not among the denoised ones: {names}."
            )
            self.engineRecord.set(json.dumps(record, ensure_ascii=False))
            self._store(self.engineRecord)

    def _emptyMessage(self) -> str:
        if self._fromParticles():
            return (
                "No particle could be described. "
                f"The particles' tomograms: {_names(ts_ids_of(self.inputParticles.get()))}. "
                f"The denoised tomograms: {_names(list(self._feed.tomograms))}. "
                "They belong together by these names."
            )
        return (
            "No particle could be described: the masks are empty, or every instance is smaller or "
            "larger than the limits."
        )

    def _resultLines(self) -> list[str]:
        output = getattr(self, "particles", None)
        if output is None:
            return []
        made: Any = getattr(self, "embeddings", None)
        dim = f" by {made.getDim()} numbers each" if made is not None else ""
        lines = [f"{counted(output.getSize(), 'particle')} described{dim}."]
        if self._fromParticles():
            lines += self._scaleLines()
        if self._record().get("others"):
            lines.append(self._record()["others"])
        return lines + self._mapLines()

    def _scaleLines(self) -> list[str]:
        particles, tomograms = self.inputParticles.get(), self.inputTomograms.get()
        if particles is None or tomograms is None:
            return []
        theirs, mine = self._coordinatesRate(), tomograms.getSamplingRate()
        edge = f"Edge of the cubes: {self._edge()} voxels."
        if abs(theirs - mine) <= _SAMPLING_RATES_DIFFER * mine:
            return [edge]
        return [
            f"Coordinates at {theirs:.2f} Å per voxel were converted to the tomograms' {mine:.2f}.",
            edge,
        ]

    def _methodsSettings(self) -> str:
        if self._fromParticles():
            return f"in cubes of {self._edge()} voxels around their centres, "
        seen = {1: "its convex hull", 2: "the particle itself", 0: "its whole box"}
        kind = seen.get(self._maskingType() or 0, "")
        return f"each seen within {kind} after growing by {self.expandLabels.get():g} voxels, "


def _names(tsIds: list[str]) -> str:
    return ", ".join(sorted(tsIds)[:_LISTED]) or "none"
