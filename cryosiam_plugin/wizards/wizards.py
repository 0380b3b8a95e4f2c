"""The wand icons of the forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from pwem.wizards import EmWizard

from cryosiam_plugin import Plugin
from cryosiam_plugin.protocols import (
    ProtCryosiamDenoise,
    ProtCryosiamImportModel,
    ProtCryosiamInstanceFilter,
    ProtCryosiamInstances,
    ProtCryosiamLamella,
    ProtCryosiamParticles,
    ProtCryosiamSemantic,
)
from cryosiam_plugin.protocols.form_parts import PRECISIONS, TILINGS
from cryosiam_plugin.wizards.box_size import box_for, measured_sizes
from cryosiam_plugin.wizards.class_choice import (
    NothingToChoose,
    classes_of,
    classes_of_masks,
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
    ProtCryosiamInstances,
]


class CryosiamClassesWizard(EmWizard):
    """Choose classes from the table of the model, or of the label masks."""

    _targets = [(ProtCryosiamParticles, ["classes"])]  # noqa: RUF012 - Scipion's own attribute

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the names."""
        _choose_classes(form, "classes", "Classes to find", lambda: classes_of(form.protocol))


class CryosiamForegroundWizard(EmWizard):
    """Choose the classes of semantic masks that are the foreground of instances."""

    _targets = [(ProtCryosiamInstances, ["foregroundClasses"])]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the names."""
        masks = form.protocol.inputLabels.get()
        title = "Classes to separate into instances"
        # Here nothing is not all: the user is to say which.
        _choose_classes(
            form, "foregroundClasses", title, lambda: classes_of_masks(masks), all_is_empty=False
        )


class CryosiamMaskClassesWizard(EmWizard):
    """Choose the classes of the masks that instances are filtered by."""

    _targets = [(ProtCryosiamInstanceFilter, ["maskClasses"])]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the names."""
        masks = form.protocol.inputRegions.get()
        title = "Classes to keep instances in"
        _choose_classes(form, "maskClasses", title, lambda: classes_of_masks(masks))


class CryosiamBoxWizard(EmWizard):
    """Suggest a box size from instances that have been measured."""

    _targets = [  # noqa: RUF012
        (ProtCryosiamInstances, ["boxSize"]),
        (ProtCryosiamInstanceFilter, ["boxSize"]),
    ]

    def show(self, form: Any, *params: Any) -> None:
        """Set the box, and say why."""
        tomograms = form.protocol.inputTomograms.get()
        voxel_size = tomograms.getSamplingRate() if tomograms is not None else 0.0
        sizes, source = measured_sizes(form.protocol)
        box, reason = box_for(sizes, voxel_size or 0.0, source)
        form.setVar("boxSize", box)
        form.showInfo(reason, "Box size")


def _choose_classes(
    form: Any,
    field: str,
    title: str,
    find: Callable[[], dict[int, str]],
    *,
    all_is_empty: bool = True,
) -> None:
    """Let the user choose classes; the form's field gets their names."""
    try:
        names = find()
    except NothingToChoose as error:
        form.showInfo(str(error), "Classes")
        return
    present = read_choice(getattr(form.protocol, field).get() or "", names)
    rows = [Row(n, (name, str(n)), n in present) for n, name in names.items()]
    told = " All of them: the field stays empty." if all_is_empty else ""
    chosen = choose(
        form.root,
        title,
        [("Class", 320), ("Number", 80)],
        rows,
        message=f"Choose several with Ctrl or Shift.{told}",
        several=True,
    )
    if chosen:
        form.setVar(field, write_classes(chosen, names, all_is_empty=all_is_empty))


class CryosiamModelFileWizard(EmWizard):
    """Choose a file from the folder of models, or a demo model."""

    _targets = [  # noqa: RUF012
        (protocol, ["modelFile"]) for protocol in [*_WITH_MODEL, ProtCryosiamImportModel]
    ]

    def show(self, form: Any, *params: Any) -> None:
        """Let the user choose; the form gets the file."""
        folder = Path(Plugin.getModelsFolder())
        tasks = getattr(form.protocol, "MODEL_TASKS", ())
        found = model_files(folder, Plugin.publishedModels(), tasks, Plugin.builtInModels())
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
            message=f"Those of the folder {folder}, and the demo models",
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
