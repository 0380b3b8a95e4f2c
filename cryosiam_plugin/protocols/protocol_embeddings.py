"""Subtomogram embeddings."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pyworkflow.object import Pointer, String
from pyworkflow.utils import Message
from tomo.objects import SetOfCoordinates3D, SetOfSubTomograms

from cryosiam_plugin.convert.embedding_files import (
    EMBEDS_ENDING,
    LABELS_ENDING,
    embeddings_shape,
    gather_centers,
    read_labels,
    stems_in,
    write_centers,
)
from cryosiam_plugin.convert.embeddings import centres_of, particles_in
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.objects import CryosiamEmbeddings
from cryosiam_plugin.protocols.embedding_form import (
    defineMapParam,
    defineNetworkParams,
    defineSourceParams,
    defineViewParams,
)
from cryosiam_plugin.protocols.embedding_information import EmbeddingInformation
from cryosiam_plugin.protocols.embedding_particles import (
    embedded_instances,
    embedded_particles,
    link_instances,
    set_instances_box,
)
from cryosiam_plugin.protocols.embedding_runs import SetRuns, linked_files
from cryosiam_plugin.protocols.embedding_settings import ANY_BOX, EmbeddingSettings
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineGpuParams,
    defineStreamingParams,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase


class CryosiamEmbeddingsOutputs(Enum):
    """The results, besides the set of failed tomograms."""

    particles = SetOfCoordinates3D
    embeddings = CryosiamEmbeddings


class ProtCryosiamEmbeddings(SetRuns, EmbeddingSettings, EmbeddingInformation, ProtCryosiamBase):
    """Describes every particle by numbers (an embedding), so that similar ones can be found.

    A network looks at each particle in tomograms that CryoSiam denoised. Its numbers are alike
    where particles look alike, whatever way they are turned. _cluster embeddings_ then finds
    groups among them, and a map shows them all.

    The particles are instance masks, such as those of CryoSiam's _instance segmentation_, or
    coordinates or subtomograms of any program. Coordinates that were picked in tomograms of
    another voxel size are converted. The result is

     - *particles*: the particles again, in their own tomograms and with their own ids (for
       instance masks: their centres of mass), each with its number among the embeddings of its
       tomogram (_embeddingRow);
     - *embeddings*: what _cluster embeddings_ takes.
    """

    _label = "subtomogram embeddings"
    _primaryOutput = CryosiamEmbeddingsOutputs.particles.name
    _doneWord = "described"
    MODEL_TASKS = ("embedding",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: what went wrong with the map.
        self.mapProblem = String()

    @property
    def _possibleOutputs(self) -> dict[str, type]:
        """The classes of the outputs: the particles' is that of the input."""
        outputs = {output.name: output.value for output in CryosiamEmbeddingsOutputs}
        return {**outputs, self._primaryOutput: self._particlesClass()}

    def _defineParams(self, form: Any) -> None:
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        defineSourceParams(form)
        defineTomogramsParam(
            form,
            "Denoised tomograms",
            "The output of CryoSiam's _denoise tomograms_: the particles are looked at in these.",
        )
        plugin = self.getClassPackage().Plugin
        defineModelParams(form, plugin, self.MODEL_TASKS, "embeddings-convex-hull")
        defineMapParam(form)
        defineViewParams(form)
        defineNetworkParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    # ----------------------------- what is described ------------------------------------------

    def _particlesClass(self) -> type[Any]:
        particles = self.inputParticles.get() if self._fromParticles() else None
        isSubtomograms = isinstance(particles, SetOfSubTomograms)
        return SetOfSubTomograms if isSubtomograms else SetOfCoordinates3D

    def _partners(self) -> dict[str, Any]:
        if self._fromParticles():
            return {"particle": self.inputParticles}
        return {"instance mask": self.inputInstances}

    def _commands(self) -> list[str]:
        centers = "from_centers_" if self._fromParticles() else ""
        return [f"simsiam_embeddings_{centers}predict"]

    def _linkInputs(self, tsId: str) -> None:
        super()._linkInputs(tsId)
        if self._fromParticles():
            tomogram, rate = self._feed.tomograms[tsId], self._coordinatesRate()
            centres = centres_of(self._particlesIn(tsId), rate, tomogram)
            write_centers(Path(self._centersFolder()) / f"{tsId}.csv", tsId, centres)
            return
        mask, tomogram = self._feed.partners["instance mask"][tsId], self._feed.tomograms[tsId]
        if tuple(mask.getDim()) != tuple(tomogram.getDim()):
            raise ValueError(
                f"Its instance mask is {mask.getDim()} voxels large, but the tomogram "
                f"{tomogram.getDim()}. Give the tomograms that the masks were made from."
            )
        link_instances(mask, self._maskFolder())

    def _particlesIn(self, tsId: str) -> list[Any]:
        source = self.inputParticles.get()
        with self._lock:
            # An object of our own: the pointer's one keeps what it has read.
            fresh = type(source)(filename=source.getFileName())
            try:
                return particles_in(fresh, tsId)
            finally:
                fresh.close()

    def _lacks(self, tsId: str, what: str) -> None:
        # A tomogram in which nobody picked anything is nothing to complain about.
        if not self._fromParticles():
            super()._lacks(tsId, what)

    def _linked(self, tsIds: list[str]) -> list[str]:
        ready = super()._linked(tsIds)
        if ready and self._fromParticles():
            with self._lock:
                gather_centers(Path(self._centersFolder()), Path(self._centersFile()))
        return ready

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        folders = (self._inputFolder(), self._maskFolder())
        return super()._readFiles(tsIds) + linked_files(*folders)

    # ----------------------------- results ----------------------------------------------------

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        tsId = tomogram.getTsId()
        embeds = Path(self._resultOf(last, "embeddings", EMBEDS_ENDING))
        labels = read_labels(embeds.with_name(f"{tsId}{LABELS_ENDING}"))
        if not labels:
            return
        name = self._primaryOutput
        if self._fromParticles():
            items = embedded_particles(self._particlesIn(tsId), labels)
            how = {"like": self.inputParticles}
            self._append(name, self._particlesClass(), items, tsId, **how)
            return
        mask = self._feed.partners["instance mask"][tsId]
        items = embedded_instances(embeds.parent, labels, mask, tomogram)
        self._append(name, SetOfCoordinates3D, items, tsId, boxSize=ANY_BOX)

    def closeOutputSetsStep(self) -> None:
        """Close the outputs, describe the embeddings of all tomograms, draw the map."""
        particles = getattr(self, self._primaryOutput, None)
        if particles is not None and not self._fromParticles():
            with self._lock:
                set_instances_box(self, particles)
        super().closeOutputSetsStep()
        self._defineOutputs(**{CryosiamEmbeddingsOutputs.embeddings.name: self._embeddings()})
        for pointer in self._sourcePointers():
            self._defineSourceRelation(pointer, self.embeddings)
        self._noteOthers()
        if self.makeMap.get():
            self._drawMap()

    def _embeddings(self) -> CryosiamEmbeddings:
        folder = Path(self._getExtraPath("predictions"))
        shapes = [embeddings_shape(folder / f"{stem}{EMBEDS_ENDING}") for stem in stems_in(folder)]
        made = CryosiamEmbeddings(folder=str(folder))
        made.setShape(max(dim for dim, _ in shapes), sum(number for _, number in shapes))
        made.setPatchSize(self.patchSize.get())
        record = self._record()
        made.setModel(record.get("model", ""), record.get("sha256", ""))
        made.setParticles(Pointer(self, extended=self._primaryOutput))
        made.setTomograms(self.inputTomograms)
        return made
