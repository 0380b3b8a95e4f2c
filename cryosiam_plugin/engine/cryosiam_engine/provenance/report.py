"""A file's provenance as text for the terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryosiam_engine.provenance.converted import converted_from
from cryosiam_engine.provenance.graph import Graph, Node, model_of
from cryosiam_engine.provenance.library import Made
from cryosiam_engine.status import Status

#: File names of one origin, and origins, that are listed one by one.
_NAMES, _GROUPS = 4, 12
_LABEL_WIDTH = 15

_STATES = {
    "unchanged": "as it was made",
    "touched": "of the size that it was made with, but written to since",
    "moved": "moved or copied since it was made",
    "changed": "CHANGED since it was made: what follows is about what it was",
    "missing": "NOT THERE any more",
    "input": "not made by the engine, or nothing is known of it",
}
_AS_INPUT = {"changed": " (CHANGED since)", "missing": " (NOT THERE any more)"}


def to_json(graph: Graph) -> str:
    """Give all that is known, as JSON: the file, and every file it comes from by its path."""
    files = {str(path): _node_values(node) for path, node in graph.nodes.items()}
    return json.dumps({"file": str(graph.root), "files": files}, indent=2)


def _node_values(node: Node) -> dict[str, Any]:
    last = node.made[-1].output if node.made else None
    converted = converted_from(node.path)
    return {
        "state": node.state,
        "size": node.size,
        "kind": last.kind if last else None,
        "shape": last.shape if last else None,
        "voxel_size": last.voxel_size if last else None,
        "model": str(node.model) if node.model else None,
        "converted_from": vars(converted) if converted else None,
        "inputs": [{"path": str(item.path), "state": item.state} for item in node.inputs],
        "made_by": [
            {
                "status_file": str(made.status_file),
                **{k: v for k, v in vars(made.status).items() if k not in ("outputs", "error")},
            }
            for made in node.made
        ],
    }


def render(graph: Graph) -> str:
    """Lay a file's provenance out as text: the file, and as a tree what it was made from."""
    return "\n".join(_tree(graph, [graph.root], "", set()))


def _tree(graph: Graph, paths: list[Path], margin: str, shown: set[Path]) -> Iterator[str]:
    """The block of some files that the same command made, and below it what these come from."""
    nodes = [graph.nodes[path.resolve()] for path in paths]
    for line in _heading(nodes):
        yield margin + line
    first = nodes[0]
    if not first.made:
        for row in _converted_rows(first.path):
            yield f"{margin}  {row}"
        return
    maker = first.made[-1].status_file
    if maker in shown:
        yield f"{margin}  as above"
        return
    shown.add(maker)
    for line in _block(first, full=not margin):
        yield f"{margin}  {line}"
    groups = _groups(graph, nodes)
    for group in groups[:_GROUPS]:
        yield f"{margin}  from"
        yield from _tree(graph, group, margin + "    ", shown)
    if len(groups) > _GROUPS:
        yield f"{margin}  and from {len(groups) - _GROUPS} more: --json lists all"
    if first.model and _is_known(graph.nodes[first.model.resolve()]):
        yield f"{margin}  its model"
        yield from _tree(graph, [first.model], margin + "    ", shown)


def _is_known(node: Node) -> bool:
    return bool(node.made or converted_from(node.path))


def _converted_rows(path: Path) -> Iterator[str]:
    """What a file that no status file names says itself."""
    converted = converted_from(path)
    for label, text in converted.rows() if converted else ():
        yield _row(label, text)


def _heading(nodes: list[Node]) -> Iterator[str]:
    first = nodes[0]
    if len(nodes) == 1:
        says_itself = not first.made and converted_from(first.path)
        state = "no status file near it names it" if says_itself else _STATES[first.state]
        size = "" if first.size is None else f" ({_bytes(first.size)}, {state})"
        yield f"{first.path}{size or f' ({state})'}"
        return
    names = ", ".join(node.path.name for node in nodes[:_NAMES])
    more = len(nodes) - _NAMES
    yield f"{first.path.parent}: {names}" + (f" and {more} more" if more > 0 else "")


def _groups(graph: Graph, nodes: list[Node]) -> list[list[Path]]:
    """The inputs of some files; those that one command made at once stand together."""
    groups: dict[Any, list[Path]] = {}
    for item in (item for node in nodes for item in node.inputs):
        made = graph.nodes[item.path.resolve()].made
        group = groups.setdefault(made[-1].status_file if made else item.path, [])
        if item.path not in group:
            group.append(item.path)
    return list(groups.values())


def _block(node: Node, *, full: bool) -> Iterator[str]:
    """What is known of a file's makers, the last one first."""
    output = node.made[-1].output
    shape = " × ".join(map(str, output.shape))
    voxel = f", voxel size {_lengths(output.voxel_size)} Å" if output.voxel_size else ""
    yield _row("what", ", ".join(filter(None, (output.kind, shape))) + voxel)
    for index, made in enumerate(reversed(node.made)):
        later = index < len(node.made) - 1
        yield from _maker("changed by" if later else "made by", made, node, full=full)
    for item in node.inputs:
        if item.state in _AS_INPUT:
            yield _row("input", f"{item.path}{_AS_INPUT[item.state]}")


def _maker(verb: str, made: Made, node: Node, *, full: bool) -> Iterator[str]:
    status, origin = made.status, made.status.origin
    took = sum(status.seconds.values())
    when = status.updated.replace("T", " ").replace("+00:00", " UTC")
    yield _row(verb, f"{status.command}, {when}" + (f", in {took:.1f} s" if took else ""))
    yield _row("on", _place(status))
    yield from _model_rows(status, node)
    yield from _configuration_rows(made)
    if full or origin.get("image"):
        yield _row("image", _image(origin))
    versions = {"cryosiam-engine": status.engine_version, **origin.get("versions", {})}
    if origin.get("driver"):
        versions["NVIDIA driver"] = origin["driver"]
    shown = versions if full else {"cryosiam-engine": status.engine_version}
    yield _row("versions", ", ".join(f"{name} {version}" for name, version in shown.items()))
    if full and origin.get("arguments"):
        yield _row("command line", " ".join(origin["arguments"]))
    for warning in status.warnings:
        yield _row("warning", warning)
    if full:
        yield _row("status file", str(made.status_file))


def _place(status: Status) -> str:
    gpu = status.origin.get("gpus", {}).get(status.device or "")
    device = f"{status.device}{f' ({gpu})' if gpu else ''}" if status.device else ""
    return ", ".join(filter(None, (status.host, device, status.precision)))


def _model_rows(status: Status, node: Node) -> Iterator[str]:
    named = model_of(status)
    if status.model_name is None and named is None:
        return
    yield _row("model", str((node.model if named else None) or status.model_name))
    sha256 = status.determinants.get("model_sha256")
    if sha256:
        yield _row("", f"SHA-256 {sha256}")


def _configuration_rows(made: Made) -> Iterator[str]:
    sha256 = made.status.determinants.get("config_sha256")
    kept = made.status.origin.get("configuration") or {}
    if sha256:
        yield _row("configuration", f"SHA-256 {sha256}")
    if kept.get("file"):
        yield _row("", f"read from {kept['file']}; --config shows it as it was")
    reads = made.status.origin.get("reads") or {}
    if not made.status.determinants.get("inputs"):
        for key, path in reads.items():
            yield _row("reads", f"{key} {path}")
    settings = made.status.determinants.get("settings")
    if settings:
        yield _row("settings", json.dumps(settings))


def _image(origin: dict[str, Any]) -> str:
    if not origin:
        return "not recorded by that version of the engine"
    image = origin.get("image")
    if not image:
        return "none (native)"
    digest = f"SHA-256 {image['sha256']}" if image.get("sha256") else "digest not recorded"
    labels = (
        f"{name} {image[name]}" for name in ("version", "revision", "built") if image.get(name)
    )
    return ", ".join([image.get("path", "path not recorded"), digest, *labels])


def _row(label: str, text: str) -> str:
    return f"{label:{_LABEL_WIDTH}}{text}".rstrip()


def _lengths(values: Iterable[float]) -> str:
    different = list(dict.fromkeys(f"{value:.4g}" for value in values))
    return " × ".join(different) if len(different) > 1 else different[0]


def _bytes(size: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"
