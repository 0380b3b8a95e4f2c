"""Cluster embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.object import Pointer, String
from pyworkflow.protocol.constants import STEPS_SERIAL
from tomo.objects import SetOfClassesSubTomograms, SetOfCoordinates3D, SetOfSubTomograms

from cryosiam_plugin.convert import link_tomogram, write_run_config
from cryosiam_plugin.convert.embedding_files import by_embedding, link_embeddings, read_rows
from cryosiam_plugin.protocols.embedding_cluster_form import (
    HDBSCAN,
    KINDS,
    SPECTRAL,
    defineClusterParams,
)
from cryosiam_plugin.protocols.embedding_cluster_report import ClusterReport
from cryosiam_plugin.protocols.embedding_clusters import new_set, write_classes, write_particles
from cryosiam_plugin.protocols.embedding_form import defineMapParam
from cryosiam_plugin.protocols.embedding_runs import CLUSTERS_TABLES, SetRuns, linked_files
from cryosiam_plugin.protocols.engine_runs import EngineRuns
from cryosiam_plugin.protocols.information import ClassLabel
from cryosiam_plugin.protocols.provenance import note_engine
from cryosiam_plugin.protocols.run_configuration import RunConfiguration

#: Names of the outputs.
OUTPUT_PARTICLES, REPRESENTATIVES, CLASSES = "particles", "representatives", "classes"


class ProtCryosiamClusters(
    ClusterReport, SetRuns, EngineRuns, RunConfiguration, ClassLabel, EMProtocol
):
    """Finds groups of similar particles among the embeddings of a run.

    The result is

     - *particles*: all particles of the run, each with its cluster, from 1 (_cluster; also the
       group of a coordinate, the class of a subtomogram; 0: in no cluster), its distance to the
       centre of the cluster (_clusterDistance) and its place among the cluster's particles by
       that distance (_clusterRank). Take some clusters with _pwem - filter set_
       (item._cluster.get() in (2, 5));
     - *representatives*: the most typical particles of each cluster;
     - *classes*: of subtomograms, also as classes for other programs; each is represented by its
       most typical subtomogram, which is no average.

    The clusters' numbers have no order. The same input and seed give the same clusters.
    """

    _label = "cluster embeddings"
    _devStatus = NEW
    stepsExecutionMode = STEPS_SERIAL

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: what went wrong with the map.
        self.mapProblem = String()
        #: JSON: particles by cluster, and what the engine said.
        self.clusterRecord = String()

    @property
    def _possibleOutputs(self) -> dict[str, type]:
        """The classes of the outputs: the particles' is that of the embedded ones."""
        embeddings = self.inputEmbeddings.get()
        particles = embeddings.getParticles() if embeddings is not None else None
        if not isinstance(particles, SetOfSubTomograms):
            return dict.fromkeys((OUTPUT_PARTICLES, REPRESENTATIVES), SetOfCoordinates3D)
        outputs = dict.fromkeys((OUTPUT_PARTICLES, REPRESENTATIVES), SetOfSubTomograms)
        return {**outputs, CLASSES: SetOfClassesSubTomograms}

    def _defineParams(self, form: Any) -> None:
        defineClusterParams(form)
        defineMapParam(form)
        form.addParallelSection(threads=1, mpi=0)

    # ----------------------------- steps ------------------------------------------------------

    def _insertAllSteps(self) -> None:
        # With what they depend on: after a change Continue runs them again.
        embeddings = self.inputEmbeddings.get()
        of = {"folder": embeddings.getFolder(), "size": embeddings.getSize()}
        asked = json.dumps({**of, **self._clusteringKeys()}, sort_keys=True)
        self._insertFunctionStep(self.linkStep, of["folder"], needsGPU=False)
        self._insertFunctionStep(self.clusterStep, asked, needsGPU=False)
        number = self.representativesPerCluster.get()
        self._insertFunctionStep(self.createOutputStep, asked, number, needsGPU=False)
        if self.makeMap.get():
            self._insertFunctionStep(self.mapStep, asked, needsGPU=False)

    def linkStep(self, source: str) -> None:
        """Lend the embeddings and the tomograms to this run, which has folders of its own."""
        self._endEarlier(self._configFile())
        embeddings = self.inputEmbeddings.get()
        for folder in (self._inputFolder(), self._predictionFolder()):
            Path(folder).mkdir(parents=True, exist_ok=True)
        # Of other embeddings, before a change.
        for link in linked_files(self._inputFolder(), self._predictionFolder()):
            link.unlink()
        stems = link_embeddings(Path(source), Path(self._predictionFolder()))
        if not stems:
            raise FileNotFoundError(
                f"There are no embeddings in {source} any more. Compute them again."
            )
        for tomogram in embeddings.getTomograms().iterItems():
            if tomogram.getTsId() in stems:
                link_tomogram(tomogram, self._inputFolder())

    def clusterStep(self, asked: str) -> None:
        """Find the clusters."""
        write_run_config(str(self._configFile()), self._configuration())
        # Of another method, before a change: the map would show them too.
        for table in Path(self._predictionFolder()).glob(CLUSTERS_TABLES):
            table.unlink()
        status = self._runOnSet(self._command())
        record: dict[str, Any] = {"warnings": list(status.warnings)}
        note_engine(record, [status])
        self.clusterRecord.set(json.dumps(record, ensure_ascii=False))
        self._store(self.clusterRecord)

    def createOutputStep(self, asked: str, number: int) -> None:
        """Make sets of the clusters."""
        embeddings = self.inputEmbeddings.get()
        table = Path(self._predictionFolder()) / f"{self._kind()}_clusters.csv"
        rows = by_embedding(read_rows(table))
        source = embeddings.getParticles()
        particles = new_set(source, self._getPath(), OUTPUT_PARTICLES)
        typical = new_set(source, self._getPath(), REPRESENTATIVES)
        sizes = write_particles(source, rows, particles, typical, number)
        outputs = {OUTPUT_PARTICLES: particles, REPRESENTATIVES: typical}
        for made in outputs.values():
            made.write()
        outputs = {name: made for name, made in outputs.items() if made.getSize()}
        self._defineOutputs(**outputs)
        if isinstance(source, SetOfSubTomograms):
            pointer = Pointer(self, extended=OUTPUT_PARTICLES)
            outputs[CLASSES] = write_classes(particles, pointer, self._getPath())
            self._defineOutputs(**{CLASSES: outputs[CLASSES]})
        for made in outputs.values():
            self._defineSourceRelation(self.inputEmbeddings, made)
            self._defineSourceRelation(embeddings.getParticlesPointer(), made)
        record = {**self._record(), "sizes": dict(sizes)}
        self.clusterRecord.set(json.dumps(record, ensure_ascii=False))
        self._store(self.clusterRecord)

    def mapStep(self, asked: str) -> None:
        """Draw the map."""
        self._drawMap()

    # ----------------------------- the engine -------------------------------------------------

    def _kind(self) -> str:
        return KINDS[self.method.get()]

    def _command(self) -> str:
        return f"simsiam_embeddings_{self._kind()}_clustering"

    def _clusteringKeys(self) -> dict[str, Any]:
        """The configuration's keys that decide what the clusters are."""
        method = self.method.get()
        section: dict[str, Any] = {"visualization": False}
        if method == HDBSCAN:
            section["min_cluster_size"] = self.minimumClusterSize.get()
            section["min_samples"] = self.minimumSamples.get() or None
        else:
            section["num_clusters"] = self.numberOfClusters.get()
        if method == SPECTRAL:
            section["estimate_num_clusters"] = bool(self.estimateNumber.get())
        return {f"clustering_{self._kind()}": section, "clustering_seed": self.seed.get()}

    def _configuration(self) -> dict[str, Any]:
        edge = self.inputEmbeddings.get().getPatchSize()
        return {
            "data_folder": self._inputFolder(),
            "prediction_folder": self._predictionFolder(),
            "file_extension": ".mrc",
            "clustering_files": None,
            **self._clusteringKeys(),
            "parameters": {"data": {"patch_size": [edge, edge, edge]}},
        }

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        return linked_files(self._inputFolder(), self._predictionFolder())

    def _cleanExtraFiles(self) -> None:
        """Remove copies of tomograms in other formats; links stay."""
        for path in Path(self._inputFolder()).glob("*.mrc"):
            if not path.is_symlink():
                path.unlink()

    # ----------------------------- information ------------------------------------------------

    def _validate(self) -> list[str]:
        embeddings = self.inputEmbeddings.get()
        if embeddings is None:
            return []
        if embeddings.getParticles() is None or embeddings.getTomograms() is None:
            return [
                "The particles or tomograms of these embeddings are not in the project any more. "
                "Compute the embeddings again."
            ]
        n_particles, asked = embeddings.getSize(), self._fewest()
        if n_particles < asked:
            return [f"There are {n_particles} particles, fewer than asked for ({asked})."]
        return []

    def _fewest(self) -> int:
        """Particles that there must be at least."""
        name = "minimumClusterSize" if self.method.get() == HDBSCAN else "numberOfClusters"
        return int(getattr(self, name).get())
