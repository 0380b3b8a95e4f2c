"""The wand icons of the forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pwem.wizards import EmWizard

from cryosiam_plugin import Plugin
from cryosiam_plugin.protocols import (
    ProtCryosiamDenoise,
    ProtCryosiamImportModel,
    ProtCryosiamLamella,
    ProtCryosiamParticles,
    ProtCryosiamSemantic,
)
from cryosiam_plugin.protocols.form_parts import PRECISIONS, TILINGS
from cryosiam_plugin.wizards.class_choice import (
    NothingToChoose,
    classes_of,
    read_choice,
    write_classes,
)
from cryosiam_plugin.wizards.dialogs import Row, choose
from cryosiam_plugin.wizards.gpu_memory import find_gpus, suggest
from cryosiam_plugin.wizards.model_files import model_files

_WITH_MODEL = [
    ProtCryosiamDenoise,
    ProtCryosiamLamella,
    ProtCryosiamSemantic,
    ProtCryosiamParticles,
]


class CryosiamClassesWizard(EmWizard):
    """Choose classes from the table of the model, or of the label masks."""

    _targets = [(ProtCryosiamParticles, ["classes"])]  # noqa: RUF012 - Scipion's own attribute

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the names."""
        try:
            names = classes_of(form.protocol)
        except NothingToChoose as error:
            form.showInfo(str(error), "Classes")
            return
        present = read_choice(form.protocol.classes.get() or "", names)
        rows = [Row(n, (name, str(n)), n in present) for n, name in names.items()]
        chosen = choose(
            form.root,
            "Classes to find",
            [("Class", 320), ("Number", 80)],
            rows,
            message="Choose several with Ctrl or Shift. All of them: the field stays empty.",
            several=True,
        )
        if chosen:
            form.setVar("classes", write_classes(chosen, names))


class CryosiamModelFileWizard(EmWizard):
    """Choose a checkpoint from the folder of models."""

    _targets = [  # noqa: RUF012
        (protocol, ["modelFile"]) for protocol in [*_WITH_MODEL, ProtCryosiamImportModel]
    ]

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the file."""
        folder = Path(Plugin.getModelsFolder())
        tasks = getattr(form.protocol, "MODEL_TASKS", ())
        found = model_files(folder, Plugin.publishedModels(), tasks)
        if not found:
            form.showInfo(
                f"There is no model for this in {folder}.\nRun 'scipion3 installb "
                "cryosiam_models', set CRYOSIAM_MODELS to the folder that has them, or browse for "
                "the file.",
                "Models",
            )
            return
        rows = [Row(m.path, (m.path.name, m.task, f"{m.megabytes} MB", m.about)) for m in found]
        rows[0].chosen = True
        chosen = choose(
            form.root,
            "Models",
            [("File", 300), ("Task", 80), ("Size", 70), ("About", 700)],
            rows,
            message=f"Those of the folder {folder}",
            several=False,
        )
        if chosen:
            form.setVar("modelFile", str(chosen[0]))


class CryosiamTilesWizard(EmWizard):
    """Suggest tiling and tiles at once from the memory of the GPU."""

    _targets = [(protocol, ["batchSize", "tiling"]) for protocol in _WITH_MODEL]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Set both, and say why."""
        protocol = form.protocol
        gpus = find_gpus() if protocol.useGpu.get() else []
        asked = (protocol.gpuList.get() or "").replace(",", " ").split()
        gpu = next((g for g in gpus if str(g.number) in asked[:1]), gpus[0] if gpus else None)
        found = suggest(gpu, TILINGS[protocol.tiling.get()], PRECISIONS[protocol.precision.get()])
        form.setVar("batchSize", found.batch_size)
        form.setVar("tiling", TILINGS.index(found.tiling))
        device = (
            f"GPU {gpu.number}: {gpu.name}, {gpu.gib:.0f} GiB."
            if gpu is not None
            else "No NVIDIA GPU is in use or answers on this machine."
        )
        form.showInfo(
            f"{device}\n\nTiling: {found.tiling}. Tiles at once: {found.batch_size}.\n\n"
            f"{found.reason}",
            "Tiles",
        )
