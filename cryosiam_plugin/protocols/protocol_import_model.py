"""Import a model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.protocol.params import GE, FileParam, FloatParam, StringParam
from pyworkflow.utils import Message

from cryosiam_plugin.objects import CryosiamModel
from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    sha256_of,
    summarise_checkpoint,
)
from cryosiam_plugin.protocols.class_lists import class_name
from cryosiam_plugin.protocols.information import REFERENCE, ClassLabel
from cryosiam_plugin.published_models import BuiltInModel, PublishedModel


class CryosiamImportModelOutputs(Enum):
    """The result."""

    model = CryosiamModel


class ProtCryosiamImportModel(ClassLabel, EMProtocol):
    """Brings a CryoSiam model into the project, with what its file does not tell.

    The file says what the model was trained for and how many classes it has. Give it the names of
    the classes and the voxel size of the tomograms it was trained on: the names then appear on
    masks and particles, and CryoSiam's protocols warn when tomograms have another voxel size.
    The model stays where it is; the project gets a link to it and its checksum.
    """

    _label = "import model"
    _devStatus = NEW
    _possibleOutputs = CryosiamImportModelOutputs

    def _defineParams(self, form: Any) -> None:
        form.addSection(label=Message.LABEL_INPUT)
        form.addParam(
            "modelFile",
            FileParam,
            important=True,
            label="Model file",
            help="A model (.ckpt, .safetensors), as CryoSiam's authors publish them or as its "
            "training writes them. The wand also offers the demo models that come with the "
            "plugin.",
        )
        form.addParam(
            "displayName",
            StringParam,
            default="",
            label="Name (optional)",
            help="How the model is called in summaries. Empty: the file's name.",
        )
        form.addParam(
            "classNames",
            StringParam,
            default="",
            label="Names of the classes (optional)",
            help="In the order of their numbers from 1 on, separated by commas, without the "
            "background: 'ribosome, proteasome'. For segmentation models only. Empty: as far as "
            "the authors tell them.",
        )
        form.addParam(
            "voxelSize",
            FloatParam,
            default=0.0,
            validators=[GE(0, error="must be 0 or more")],
            label="Voxel size (Å)",
            help="Of the tomograms that the model was trained on. 0: unknown, no warnings then "
            "(demo models know theirs).",
        )

    def _insertAllSteps(self) -> None:
        self._insertFunctionStep(self.importStep, needsGPU=False)

    def importStep(self) -> None:
        """Read the description, link the file, make the output."""
        source = Path(self._file())
        summary = summarise_checkpoint(str(source))
        link = Path(self._getExtraPath(source.name))
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
        model = CryosiamModel(path=str(link), task=summary.task)
        known = self._known()
        names = self._names() or (known.classes if known else {})
        model.setDisplayName((self.displayName.get() or "").strip() or source.stem)
        model.setNClasses(summary.n_classes)
        model.setClassNames({c: class_name(c, names) for c in range(1, summary.n_classes + 1)})
        model.setSamplingRate(self.voxelSize.get() or getattr(known, "voxel_size", 0.0))
        model.setSha256(sha256_of(str(source)))
        self._defineOutputs(**{CryosiamImportModelOutputs.model.name: model})

    def _file(self) -> str:
        return str(Path((self.modelFile.get() or "").strip()).expanduser().absolute())

    def _known(self) -> PublishedModel | BuiltInModel | None:
        """What the plugin knows about the file, if it is a published or a demo model."""
        plugin, name = self.getClassPackage().Plugin, Path(self._file()).name
        models = [*plugin.publishedModels(), *plugin.builtInModels()]
        return next((model for model in models if model.file == name), None)

    def _names(self) -> dict[int, str]:
        texts = [name.strip() for name in (self.classNames.get() or "").split(",")]
        return {number: name for number, name in enumerate(texts, 1) if name}

    def _validate(self) -> list[str]:
        if not (self.modelFile.get() or "").strip():
            return ["Give the model file (.ckpt, .safetensors)."]
        try:
            summary = summarise_checkpoint(self._file())
        except CheckpointSummaryError as error:
            return [str(error)]
        names = self._names()
        if names and max(names) > summary.n_classes:
            return [
                f"{max(names)} names of classes were given, but the model has "
                f"{summary.n_classes} classes (without the background)."
            ]
        return []

    def _summary(self) -> list[str]:
        model = getattr(self, CryosiamImportModelOutputs.model.name, None)
        if model is None:
            return ["Not imported yet."]
        lines = [f"Model *{model.getDisplayName()}* for {model.getTask()}."]
        if model.getNClasses():
            lines.append("Classes: " + _table(model.getClassNames()))
        if model.getSamplingRate():
            lines.append(f"Trained at {model.getSamplingRate():.2f} Å per voxel.")
        return [*lines, f"SHA-256: {model.getSha256()}"]

    def _methods(self) -> list[str]:
        model = getattr(self, CryosiamImportModelOutputs.model.name, None)
        if model is None:
            return []
        return [
            f"The CryoSiam [{REFERENCE}] model {model.getDisplayName()} (SHA-256 "
            f"{model.getSha256()}) was used."
        ]

    def _citations(self) -> list[str]:
        return [REFERENCE]


def _table(names: dict[int, str]) -> str:
    return ", ".join(f"{class_id} {name}" for class_id, name in sorted(names.items()))
