"""What a run's results were made with, in the words of a methods section.

A run keeps a record (JSON values); here is what of it comes from the engine's status files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

from cryosiam_plugin.engine_status import EngineStatus


def note_engine(record: dict[str, Any], statuses: Iterable[EngineStatus]) -> None:
    """Add to a run's record with which engine and configuration results were made.

    Everything that differs is kept: between two parts of a run the engine may have been updated.

    Parameters
    ----------
    record
        Gets ``engines``, each a version and an image, and ``configurations``, the sha256 by
        command.
    statuses
        Of finished results.
    """
    engines = record.setdefault("engines", [])
    configurations = record.setdefault("configurations", {})
    for status in statuses:
        engine = {"version": status.engine_version, "image": status.image}
        if engine not in engines:
            engines.append(engine)
        digests = configurations.setdefault(status.command, [])
        if status.config_sha256 and status.config_sha256 not in digests:
            digests.append(status.config_sha256)


def engine_words(record: dict[str, Any]) -> str:
    """Which engine it was, as in "cryosiam-engine 0.1.0 in the container image x.sif (...)"."""
    engines = record.get("engines")
    if not engines:
        # Of a run of an earlier version of the plugin.
        return f"cryosiam-engine {record.get('version', '')}".strip()
    named = (
        f"cryosiam-engine {engine['version']}"
        + (f" in {_image_words(engine['image'])}" if engine["image"] else "")
        for engine in engines
    )
    return " and ".join(named)


def configuration_sentence(record: dict[str, Any]) -> str:
    """The sha256 of the configurations, as a sentence; empty where none is known."""
    named = [
        f"{' and '.join(digests)} ({command})"
        for command, digests in record.get("configurations", {}).items()
        if digests
    ]
    return f"SHA-256 of the configuration: {', '.join(named)}." if named else ""


def image_lines(record: dict[str, Any]) -> list[str]:
    """A line of a summary for each container image; none where the engine runs without."""
    images = (engine["image"] for engine in record.get("engines", ()) if engine["image"])
    return [f"Container: {_image_name(image)}{_short(image)}." for image in images]


def _image_words(image: dict[str, str]) -> str:
    digest = image.get("sha256")
    known = f"SHA-256 {digest}" if digest else image.get("revision", "")
    return f"the container image {_image_name(image)}" + (f" ({known})" if known else "")


def _image_name(image: dict[str, str]) -> str:
    return Path(image["path"]).name if image.get("path") else f"version {image.get('version')}"


def _short(image: dict[str, str]) -> str:
    return f" (SHA-256 {image['sha256'][:12]}...)" if image.get("sha256") else ""
