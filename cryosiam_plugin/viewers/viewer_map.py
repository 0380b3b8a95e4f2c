"""Where Scipion meets the map of embeddings: Analyze Results, and a click on embeddings."""

from __future__ import annotations

import logging
import webbrowser
from pathlib import Path
from typing import Any, Callable

from pyworkflow.protocol.params import LabelParam
from pyworkflow.viewer import DESKTOP_TKINTER, ProtocolViewer, View, Viewer
from tomo.objects import SetOfSubTomograms

from cryosiam_plugin.objects import CryosiamEmbeddings
from cryosiam_plugin.protocols import ProtCryosiamClusters, ProtCryosiamEmbeddings
from cryosiam_plugin.viewers.map_selection import WindowThread, make_selection, show_new_run
from cryosiam_plugin.viewers.map_server import MapServer
from cryosiam_plugin.viewers.scipion_scenes import of_set
from cryosiam_plugin.viewers.viewer_slices import CryosiamSliceView
from cryosiam_plugin.viewers.volumes import ViewerError

logger = logging.getLogger(__name__)

_NO_MAP = (
    "There is no map of these embeddings. Choose 'Make a map?' in the form of this run, or of a "
    "run of 'cluster embeddings'. If it was chosen, the summary says why there is none."
)

#: The maps that are open, by page: to open one again is to look at the same.
_servers: dict[Path, MapServer] = {}


class CryosiamMapView(View):
    """A map to be opened in the browser, with a server behind it that takes selections.

    The server lives in Scipion's process: it ends with Scipion, or after twelve hours in which
    the page asked for nothing.

    Parameters
    ----------
    run
        The run whose map it is.
    project
        The project that selections become runs of.
    window
        Scipion's window; None outside of it.
    """

    def __init__(self, run: Any, project: Any, window: Any = None) -> None:
        super().__init__()
        self._run = run
        self._project = project
        self._window = window
        self.page = run.mapPage()

    def show(self) -> None:
        """Open the page."""
        try:
            server = self.serve()
        except OSError as error:
            # Without a server there is no way back to Scipion, but all there is to see.
            logger.warning("The map cannot be served (%s); it is opened as a file.", error)
            webbrowser.open_new_tab(self.page.as_uri())
            return
        if not webbrowser.open_new_tab(server.url):
            _tell(f"No browser could be started. Open this address on this computer: {server.url}")
        if _tk_root() is None:
            # Nothing else keeps this process alive.
            server.wait()

    def serve(self) -> MapServer:
        """The server of this page: the one that there is, or a new one.

        Raises
        ------
        OSError
            When the system allows none.
        """
        server = _servers.get(self.page)
        if server is not None and server.is_running:
            if server.is_current:
                return server
            server.close()
        _servers[self.page] = MapServer(self.page, self._taker())
        return _servers[self.page]

    def _taker(self) -> Callable[[str, list[int]], str]:
        root = _tk_root()
        window = WindowThread(root) if root is not None else None

        def take(name: str, rows: list[int]) -> str:
            def make() -> str:
                _, message = make_selection(self._project, self._run, name, rows)
                show_new_run(self._window)
                return message

            return window.run(make) if window is not None else make()

        return take


class CryosiamMapViewer(ProtocolViewer):
    """Analyze Results of the protocols with embeddings: the map, and the particles."""

    _targets = [ProtCryosiamEmbeddings, ProtCryosiamClusters]  # noqa: RUF012 - Scipion's own
    _environments = [DESKTOP_TKINTER]  # noqa: RUF012
    _label = "CryoSiam embeddings"

    @classmethod
    def getClassLabel(cls, prependPackageName: bool = True) -> str:
        """What the window is called; a viewer belongs to no plugin, as Scipion sees it."""
        return cls._label

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Results")
        form.addParam(
            "showMap",
            LabelParam,
            label="Map of all particles (in the browser)",
            help="Similar particles lie together. Select some with the lasso, and _Create set in "
            "Scipion_ makes a set of them in this project.",
        )
        form.addParam(
            "showParticles",
            LabelParam,
            label="Particles in the tomograms",
            help="Opens the slice viewer; after clustering, by cluster.",
        )
        if isinstance(self.protocol, ProtCryosiamClusters):
            form.addParam(
                "showRepresentatives",
                LabelParam,
                label="Representatives in the tomograms",
                help="The most typical particles of each cluster.",
            )

    def _getVisualizeDict(self) -> dict[str, Callable[[str], list[View]]]:
        return {
            "showMap": self._map,
            "showParticles": self._particles,
            "showRepresentatives": self._representatives,
        }

    def _map(self, name: str | None = None) -> list[View]:
        if self.protocol.mapPage() is None:
            return [self.errorMessage(_NO_MAP, self._label)]
        return [CryosiamMapView(self.protocol, self.getProject(), getattr(self, "windows", None))]

    def _particles(self, name: str | None = None) -> list[View]:
        return self._slices("particles")

    def _representatives(self, name: str | None = None) -> list[View]:
        return self._slices("representatives")

    def _slices(self, output: str) -> list[View]:
        particles = getattr(self.protocol, output, None)
        try:
            if particles is None:
                raise ViewerError("There are none (yet).")
            if isinstance(particles, SetOfSubTomograms):
                particles = particles.getCoordinates3D()
            scenes = of_set(particles, self.getProject())
        except ViewerError as error:
            return [self.errorMessage(str(error), self._label)]
        return [CryosiamSliceView(scenes, self.protocol.getRunName(), self.getTkRoot())]


class CryosiamEmbeddingsViewer(Viewer):
    """A double click on embeddings: their map."""

    _targets = [CryosiamEmbeddings]  # noqa: RUF012
    _environments = [DESKTOP_TKINTER]  # noqa: RUF012
    _name = "CryoSiam map"

    def _visualize(self, obj: Any, **kwargs: Any) -> list[View]:
        run = obj.getParticlesPointer().getObjValue()
        if run is None or run.mapPage() is None:
            return [self.errorMessage(_NO_MAP, self._name)]
        return [CryosiamMapView(run, self.getProject(), self.getParent())]


def _tk_root() -> Any:
    """Scipion's main window, if there is one in this process."""
    # Here, not above: whoever looks only at which viewers there are needs no Tk.
    import tkinter

    return getattr(tkinter, "_default_root", None)


def _tell(message: str) -> None:
    logger.warning(message)
    root = _tk_root()
    if root is not None:
        from pyworkflow.gui.dialog import showInfo

        showInfo("Map", message, root)
