"""The wand icons of the training protocol's form."""

from __future__ import annotations

from typing import Any

from pwem.wizards import EmWizard

from cryosiam_plugin.protocols import ProtCryosiamTrainSemantic
from cryosiam_plugin.wizards.class_choice import NothingToChoose, classes_of_masks
from cryosiam_plugin.wizards.wizards import CryosiamModelFileWizard


class CryosiamTrainingModelWizard(CryosiamModelFileWizard):
    """Choose the model that a training starts from."""

    _targets = [(ProtCryosiamTrainSemantic, ["modelFile"])]  # noqa: RUF012 - Scipion's own attribute


class CryosiamClassNamesWizard(EmWizard):
    """Write down the names that the masks know, to be changed."""

    _targets = [(ProtCryosiamTrainSemantic, ["classNames"])]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Fill the field."""
        try:
            names = classes_of_masks(form.protocol.inputMasks.get())
        except NothingToChoose as error:
            form.showInfo(str(error), "Classes")
            return
        found = (names.get(label, f"class {label}") for label in range(1, max(names) + 1))
        form.setVar("classNames", ", ".join(found))
