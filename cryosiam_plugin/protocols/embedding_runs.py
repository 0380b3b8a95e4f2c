"""Engine commands that work on the embeddings of all tomograms at once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyworkflow.utils import redStr

from cryosiam_plugin.engine_status import EngineStatus, read_status
from cryosiam_plugin.protocols.engine_batch import INTERRUPTED, EngineStopped, Stage
from cryosiam_plugin.protocols.part import ProtocolPart

logger = logging.getLogger(__name__)

#: The engine's name of the set in status files.
ALL = "all"
MAP_COMMAND = "simsiam_embeddings_map"
MAP_PAGE = "embeddings_map.html"
MAP_TABLE = "embeddings_map.csv"
CLUSTERS_TABLES = "*_clusters.csv"


class SetCommandError(RuntimeError):
    """A command about all tomograms failed; the message is the engine's own."""


class SetRuns(ProtocolPart):
    """Mixed into a protocol that has embeddings in its prediction folder.

    The protocol has a String attribute `mapProblem`.
    """

    if TYPE_CHECKING:

        def _launch(self, command: str, tsIds: list[str]) -> Any: ...

    def _runOnSet(self, command: str) -> EngineStatus:
        """Run a command about all tomograms; what an earlier run said is forgotten.

        Raises
        ------
        SetCommandError
            When it failed, with the engine's reason.
        EngineStopped
            When the engine was asked to stop.
        """
        stage = Stage.of(command, self._predictionFolder())
        stage.forget(ALL)
        end = self._launch(command, [])
        done = stage.done(ALL)
        if done is not None:
            return done
        status = read_status(stage.folder, ALL)
        failed = status if status is not None and status.is_failed else None
        interrupted = failed is not None and failed.error.get("type") == INTERRUPTED
        if end.was_asked_to_stop or interrupted:
            raise EngineStopped("The engine was stopped before it had finished. Press Continue.")
        raise SetCommandError((failed.error_text if failed else "") or end.reason)

    def _drawMap(self) -> None:
        """Make the map; without it the results are still good, so a failure is only noted."""
        problem, warnings = None, []
        try:
            status = self._runOnSet(MAP_COMMAND)
            warnings = list(status.warnings)
        except SetCommandError as error:
            problem = str(error)
            logger.error(redStr(f"The map could not be made: {problem}"))
        self.mapProblem.set(json.dumps({"problem": problem, "warnings": warnings}))
        self._store(self.mapProblem)

    def mapPage(self) -> Path | None:
        """The map's page; None where there is none."""
        page = Path(self._predictionFolder()) / MAP_PAGE
        return page if page.is_file() else None

    def particlesTable(self) -> Path | None:
        """The table that says which particle each row is: of the map, or of the clusters."""
        folder = Path(self._predictionFolder())
        found = [folder / MAP_TABLE, *sorted(folder.glob(CLUSTERS_TABLES))]
        return next((path for path in found if path.is_file()), None)

    def _mapLines(self) -> list[str]:
        """What the summary says about the map."""
        text = self.mapProblem.get()
        said = json.loads(text) if text else {}
        lines = [f"*Map*: {warning}" for warning in said.get("warnings", [])]
        if said.get("problem"):
            lines.append(f"*The map could not be made*: {said['problem']}")
        elif self.mapPage() is not None:
            lines.append("The map: press _Analyze Results_.")
        return lines


def linked_files(*folders: str) -> list[Path]:
    """The links in some folders, for a container that sees only what it is shown."""
    return [path for folder in folders for path in Path(folder).glob("*") if path.is_symlink()]
