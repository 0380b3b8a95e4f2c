"""What the classes that make up a protocol may rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

if TYPE_CHECKING:
    from pathlib import Path

    from pwem.protocols import EMProtocol as ScipionProtocol

    from cryosiam_plugin.protocols.model_choice import ChosenModel
else:
    # Scipion takes every subclass of its own protocols for one that users can run.
    ScipionProtocol = object


class ProtocolPart(ScipionProtocol):
    """Base of the classes that are mixed into a protocol; by itself it does nothing.

    To a type checker it is one of Scipion's protocols, with what one part needs of another.
    """

    if TYPE_CHECKING:
        MODEL_TASKS: Sequence[str]

        def _partners(self) -> dict[str, Any]: ...

        def _model(self) -> ChosenModel | None: ...

        def _modelProblems(self) -> list[str]: ...

        def _configFile(self) -> Path: ...

        def _inputFolder(self) -> str: ...

        def _maskFolder(self) -> str: ...

        def _predictionFolder(self) -> str: ...

        def _tsIdsOf(self, name: str) -> set[str]: ...

        def _failures(self) -> dict[str, str]: ...

        def _tomogramOf(self, tsId: str) -> Any: ...

        def _sourcePointers(self) -> list[Any]: ...
