"""The wand icons of the form of masks from coordinates."""

from __future__ import annotations

from typing import Any

from pwem.wizards import EmWizard
from tomo.objects import SetOfCoordinates3D

from cryosiam_plugin.protocols import ProtCryosiamMasksFromCoordinates
from cryosiam_plugin.protocols.mask_classes import MaskClasses
from cryosiam_plugin.protocols.mask_values import values_of_classes, write_values
from cryosiam_plugin.wizards.dialogs import Row, choose

#: Boxes are commonly half as large again as the particles in them.
_BOXES_PER_RADIUS = 3
_COLUMNS = [("Class", 280), ("Number", 80), ("Particles", 100), ("Value", 120)]


class CryosiamMaskRadiusWizard(EmWizard):
    """List the classes of the particles, and write them into the field, to be given radii."""

    _targets = [(ProtCryosiamMasksFromCoordinates, ["radii"])]  # noqa: RUF012 - Scipion's own

    def show(self, form: Any, *params: Any) -> None:
        """Show the classes; the field gets each with its radius."""
        _write_classes(form, "radii", "Radius of the spheres (Å)")


class CryosiamMaskThresholdWizard(EmWizard):
    """List the classes of the particles, and write them into the field, to be given thresholds."""

    _targets = [(ProtCryosiamMasksFromCoordinates, ["thresholds"])]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Show the classes; the field gets each with its threshold."""
        _write_classes(form, "thresholds", "Threshold of the average maps")


def _write_classes(form: Any, field: str, title: str) -> None:
    protocol = form.protocol
    if not list(protocol.inputCoordinates) or None in protocol._particleSets():
        form.showInfo("Give the particles first: they know their classes.", title)
        return
    try:
        classes = protocol._classes()
    except ValueError as error:
        form.showInfo(str(error), title)
        return
    present = getattr(protocol, field).get() or ""
    try:
        values = values_of_classes(present, classes.names, "")
    except ValueError:
        values = _first_radii(protocol, classes) if field == "radii" else {}
    values = {label: values.get(label, 0.0) for label in classes.names}
    rows = [
        Row(label, (name, str(label), str(classes.numbers[label]), f"{values[label]:g}"), True)
        for label, name in sorted(classes.names.items())
    ]
    message = "Select writes the classes into the field. Then correct the values there."
    if choose(form.root, title, _COLUMNS, rows, message=message, several=True):
        form.setVar(field, write_values(values, classes.names))


def _first_radii(protocol: Any, classes: MaskClasses) -> dict[int, float]:
    """Radii (Å) that suit the box sizes, where there are any."""
    radii: dict[int, float] = {}
    for source, particles in enumerate(protocol._particleSets()):
        if isinstance(particles, SetOfCoordinates3D) and particles.getBoxSize():
            box = particles.getBoxSize() * particles.getSamplingRate()
            labels = [classes.of_source[source]] if classes.of_source else list(classes.names)
            for label in labels:
                radii.setdefault(label, round(box / _BOXES_PER_RADIUS))
    return radii
