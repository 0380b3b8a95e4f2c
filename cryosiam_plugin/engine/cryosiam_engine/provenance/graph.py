"""The files that a file was made from, back to those that no command of the engine made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryosiam_engine.provenance.library import Made, makers, outputs_of
from cryosiam_engine.status import FileIdentity, Status

#: Keys of a configuration that name a model.
_MODEL_KEYS = ("trained_model", "pretrained_model")


@dataclass(frozen=True)
class Input:
    """A file that a command read.

    Attributes
    ----------
    path
        Where it is now or, where it is not found, where it was.
    state
        As :attr:`Made.match <cryosiam_engine.provenance.library.Made>`, since it was read.
    """

    path: Path
    state: str


@dataclass
class Node:
    """A file and where it comes from.

    Attributes
    ----------
    path, size
        The file and its bytes; None where it is missing.
    made
        Who wrote it, in order; empty for what the engine did not make, such as raw tomograms.
    inputs
        What those commands read.
    model
        The model that they used, where it is known where it lay.
    """

    path: Path
    size: int | None
    made: list[Made] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    model: Path | None = None

    @property
    def state(self) -> str:
        """How the file is compared to what its maker left; ``input`` where it has none."""
        if self.size is None:
            return "missing"
        return self.made[-1].match if self.made else "input"


@dataclass
class Graph:
    """A file and, by path, everything that it comes from.

    Attributes
    ----------
    root
        The file that was asked for.
    nodes
        Each file once, itself among them.
    """

    root: Path
    nodes: dict[Path, Node] = field(default_factory=dict)

    def origin(self) -> Node:
        """The file that was asked for."""
        return self.nodes[self.root]


def trace(path: Path) -> Graph:
    """Follow a file back through the status files of all commands that led to it.

    Parameters
    ----------
    path
        The file or a link to it.
    """
    outputs_of.cache_clear()  # what was read is remembered for one question only
    graph = Graph(path.resolve())
    moves: list[tuple[str, str]] = []
    pending = [path]
    while pending:
        file = pending.pop()
        if file.resolve() in graph.nodes:
            continue
        node = _node(file, moves)
        graph.nodes[file.resolve()] = node
        pending += [item.path for item in node.inputs]
        pending += [node.model] if node.model else []
    return graph


def _node(path: Path, moves: list[tuple[str, str]]) -> Node:
    real = path.resolve()
    node = Node(real, real.stat().st_size if real.is_file() else None, makers(path))
    for made in node.made:
        if made.match == "moved":
            moves.append(_move(Path(made.output.file.path), real))
        node.inputs += [_input(entry, moves) for entry in _inputs(made.status.determinants)]
        model = model_of(made.status)
        node.model = _found(model, moves) if model else node.model
    return node


def _inputs(determinants: dict[str, Any]) -> list[FileIdentity]:
    return [FileIdentity(**entry) for entry in determinants.get("inputs") or ()]


def _input(read: FileIdentity, moves: list[tuple[str, str]]) -> Input:
    path = _found(Path(read.path), moves)
    if not path.is_file():
        return Input(path, "missing")
    if path.stat().st_size != read.size:
        return Input(path, "changed")
    if str(path) != read.path:
        return Input(path, "moved")
    return Input(path, "unchanged" if read.is_current() else "touched")


def _found(path: Path, moves: list[tuple[str, str]]) -> Path:
    """The path itself, or where it is if its folder was moved like that of a result."""
    if path.exists():
        return path
    for before, after in moves:
        if str(path).startswith(before):
            moved = Path(after + str(path)[len(before) :])
            if moved.exists():
                return moved
    return path


def _move(before: Path, after: Path) -> tuple[str, str]:
    """The folders that differ: the longest end that both paths have in common is left out."""
    one, other = list(before.parts), list(after.parts)
    while len(one) > 1 and len(other) > 1 and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return str(Path(*one)), str(Path(*other))


def model_of(status: Status) -> Path | None:
    """Where the model lay that a command used, or began a training with."""
    reads = status.origin.get("reads") or {}
    return next((Path(reads[key]) for key in _MODEL_KEYS if reads.get(key)), None)
