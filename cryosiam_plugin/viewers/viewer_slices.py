"""Where Scipion meets the slice viewer: Analyze Results, and a double click on a set."""

from __future__ import annotations

from typing import Any, Callable

from pyworkflow.protocol import Protocol
from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer
from tomo.objects import SetOfCoordinates3D, SetOfMeshes, SetOfTomograms, SetOfTomoMasks

from cryosiam_plugin.protocols import (
    ProtCryosiamDenoise,
    ProtCryosiamInstanceFilter,
    ProtCryosiamInstances,
    ProtCryosiamLamella,
    ProtCryosiamMasksFromCoordinates,
    ProtCryosiamParticles,
    ProtCryosiamSemantic,
)
from cryosiam_plugin.viewers.scene import SceneFiles
from cryosiam_plugin.viewers.scipion_scenes import is_ours, of_protocol, of_set
from cryosiam_plugin.viewers.volumes import ViewerError

# The first of these that an object is decides how specific Scipion takes the viewer to be.
_SETS = [SetOfTomoMasks, SetOfTomograms, SetOfMeshes, SetOfCoordinates3D]


class CryosiamSliceView(View):
    """A slice viewer to be opened, or the list of tomograms to choose from."""

    def __init__(self, tomograms: list[SceneFiles], title: str, master: Any) -> None:
        super().__init__()
        self.tomograms = tomograms
        self._title = title
        self._master = master

    def show(self) -> None:
        """Open the window."""
        # Here, not above: whoever looks only at which viewers there are needs no Tk.
        import tkinter

        from cryosiam_plugin.viewers.slice_viewer import show_tomograms

        # Scipion does not name its window where an object of a form is looked at.
        master = self._master or getattr(tkinter, "_default_root", None)
        show_tomograms(self.tomograms, self._title, master)


class _CryosiamViewer(Viewer):
    """What our viewers have in common: find the tomograms, show them, or say why not."""

    _environments = [DESKTOP_TKINTER]  # noqa: RUF012 - Scipion's own attribute
    _name = "CryoSiam slice viewer"
    _find: Callable[[Any, Any], list[SceneFiles]] = staticmethod(of_set)

    def _visualize(self, obj: Any, **kwargs: Any) -> list[View]:
        try:
            tomograms = self._find(obj, self.getProject())
        except ViewerError as error:
            return [self.errorMessage(str(error), self._name)]
        return [CryosiamSliceView(tomograms, _title_of(obj), self.getTkRoot())]


class CryosiamProtocolViewer(_CryosiamViewer):
    """Analyze Results: the tomograms of a run with what it found."""

    _targets = [  # noqa: RUF012
        ProtCryosiamDenoise,
        ProtCryosiamLamella,
        ProtCryosiamSemantic,
        ProtCryosiamParticles,
        ProtCryosiamInstances,
        ProtCryosiamInstanceFilter,
        ProtCryosiamMasksFromCoordinates,
    ]
    _find = staticmethod(of_protocol)


class CryosiamSetViewer(_CryosiamViewer):
    """A double click on an output of our protocols."""

    _targets = _SETS

    @classmethod
    def can_handle_this_instance(cls, instance: Any) -> bool:
        """Whether the set is an output of ours."""
        return is_ours(instance)


class CryosiamOtherSetViewer(_CryosiamViewer):
    """Tomograms, masks and coordinates of other protocols: one more way to look at them."""

    _targets = _SETS

    @classmethod
    def can_handle_this_instance(cls, instance: Any) -> bool:
        """Whether the set is somebody else's."""
        return not is_ours(instance)


def _title_of(obj: Any) -> str:
    """The name that the user gave to a run, or what it does; the name of a set."""
    label = str(obj.getObjLabel() or obj.getLastName() or "tomograms")
    # Without a name of its own a run has its protocol's, which begins with the plugin's.
    if isinstance(obj, Protocol) and label.startswith(obj.getClassLabel()):
        label = label.replace(obj.getClassLabel(), obj.getClassLabel(prependPackageName=False), 1)
    return label
