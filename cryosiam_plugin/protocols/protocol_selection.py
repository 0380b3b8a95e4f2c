"""Particles from a map."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Any

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.object import String
from pyworkflow.protocol.params import FileParam, PointerParam
from pyworkflow.utils import Message
from tomo.objects import SetOfCoordinates3D, SetOfSubTomograms

from cryosiam_plugin.convert.embedding_files import by_embedding, read_rows
from cryosiam_plugin.convert.embeddings import CLUSTER, coordinate_of, embedding_of
from cryosiam_plugin.protocols.embedding_clusters import cluster_lines, new_set
from cryosiam_plugin.protocols.embedding_runs import SetRuns
from cryosiam_plugin.protocols.embedding_selection import read_selection
from cryosiam_plugin.protocols.information import REFERENCE, ClassLabel, counted

_LISTED = 10


class CryosiamSelectionOutputs(Enum):
    """The result."""

    particles = SetOfCoordinates3D


class ProtCryosiamSelection(ClassLabel, EMProtocol):
    """Makes a set of the particles that were selected on a map of embeddings.

    The map's button _Create set in Scipion_ makes and runs this protocol. To run it by hand, save
    a selection on the map (_Export CSV_) and give the file here, with the particles of the same
    run. The result is a set of the same kind, coordinates or subtomograms, ready for extraction,
    averaging or export. The particles keep their ids, so that _pwem - subset_ finds them in other
    sets.
    """

    _label = "particles from map"
    _devStatus = NEW

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: what was selected from what.
        self.selectionRecord = String()

    @property
    def _possibleOutputs(self) -> dict[str, type]:
        """The class of the output is that of the input."""
        isSubtomograms = isinstance(self.inputParticles.get(), SetOfSubTomograms)
        return {"particles": SetOfSubTomograms if isSubtomograms else SetOfCoordinates3D}

    def _defineParams(self, form: Any) -> None:
        form.addSection(label=Message.LABEL_INPUT)
        form.addParam(
            "inputParticles",
            PointerParam,
            pointerClass="SetOfCoordinates3D,SetOfSubTomograms",
            important=True,
            label="Particles",
            help="The output _particles_ of the run (_subtomogram embeddings_ or _cluster "
            "embeddings_) whose map the selection was drawn on.",
        )
        form.addParam(
            "selectionFile",
            FileParam,
            label="Selection",
            help="The table (CSV) that the map's _Export CSV_ saved. Only its column _row_ counts.",
        )

    def _insertAllSteps(self) -> None:
        self._insertFunctionStep(self.createOutputStep, needsGPU=False)

    def createOutputStep(self) -> None:
        """Take the selected particles out of the input."""
        kept = Path(self._getExtraPath("selection.csv"))
        # The run can be repeated from its own folder, whatever becomes of the file.
        shutil.copyfile(self._file(), kept)
        selected = read_selection(kept)
        rows = by_embedding(read_rows(self._table()))
        source = self.inputParticles.get()
        made = new_set(source, self._getPath(), "particles")
        found: set[int] = set()
        clusters: Counter[int] = Counter()
        tomograms: Counter[str] = Counter()
        for item in source.iterItems():
            row = rows.get(embedding_of(item))
            if row is None or row.row not in selected:
                continue
            made.append(item.clone())
            found.add(row.row)
            tomograms[str(coordinate_of(item).getTomoId())] += 1
            if hasattr(item, CLUSTER):
                clusters[int(getattr(item, CLUSTER).get())] += 1
        if found != selected:
            raise ValueError(
                f"{len(selected - found)} of the {len(selected)} selected rows are no particles of "
                "this set. Give the particles of the run whose map the selection was drawn on."
            )
        made.write()
        self._defineOutputs(particles=made)
        self._defineSourceRelation(self.inputParticles, made)
        self._note(source.getSize(), clusters, tomograms)

    def _note(self, total: int, clusters: Counter[int], tomograms: Counter[str]) -> None:
        run = self._mapsRun()
        record = {
            "total": total,
            "clusters": dict(clusters),
            "tomograms": dict(tomograms),
            "run": f"{run.getRunName()} ({run.getObjId()})",
        }
        self.selectionRecord.set(json.dumps(record, ensure_ascii=False))
        self._store(self.selectionRecord)

    def _file(self) -> Path:
        return Path((self.selectionFile.get() or "").strip()).expanduser()

    def _mapsRun(self) -> Any:
        """The run that made the particles and their map; None where it is none of ours."""
        run = self.inputParticles.getObjValue()
        if not isinstance(run, EMProtocol) and run is not None:
            run = self.getProject().getProtocol(run.getObjParentId())
        return run if isinstance(run, SetRuns) else None

    def _table(self) -> Path:
        run = self._mapsRun()
        table = run.particlesTable() if run is not None else None
        if table is None:
            raise ValueError(
                "There is no map of these particles. Give the output 'particles' of the run of "
                "'subtomogram embeddings' or 'cluster embeddings' whose map the selection was "
                "drawn on."
            )
        return table

    def _validate(self) -> list[str]:
        problems = []
        if not self._file().is_file():
            problems.append(f"There is no selection {self._file()}: give the file of the map.")
        else:
            try:
                read_selection(self._file())
            except (OSError, ValueError) as error:
                problems.append(str(error))
        if self.inputParticles.get() is not None:
            try:
                self._table()
            except ValueError as error:
                problems.append(str(error))
        return problems

    def _summary(self) -> list[str]:
        output = getattr(self, CryosiamSelectionOutputs.particles.name, None)
        text = self.selectionRecord.get()
        if output is None or not text:
            return ["No results yet."]
        record = json.loads(text)
        lines = [
            f"{output.getSize()} of {counted(record['total'], 'particle')} selected on the map of "
            f"{record['run']}."
        ]
        sizes = {int(cluster): n for cluster, n in record["clusters"].items()}
        lines += cluster_lines(sizes)
        tomograms = sorted(record["tomograms"].items())
        lines += [f"{tsId}: {number}" for tsId, number in tomograms[:_LISTED]]
        if len(tomograms) > _LISTED:
            lines.append(f"... and {len(tomograms) - _LISTED} more tomograms.")
        return lines

    def _methods(self) -> list[str]:
        output = getattr(self, CryosiamSelectionOutputs.particles.name, None)
        if output is None:
            return []
        return [
            f"{output.getSize()} particles were selected by hand on a map of their CryoSiam "
            f"[{REFERENCE}] embeddings."
        ]

    def _citations(self) -> list[str]:
        return [REFERENCE]
