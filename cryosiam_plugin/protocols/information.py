"""What a protocol says to its user: problems, warnings, summary, methods, references."""

from __future__ import annotations

import json
from typing import Any

from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.part import ProtocolPart
from cryosiam_plugin.protocols.provenance import (
    configuration_sentence,
    engine_words,
    image_lines,
    note_engine,
)

#: Voxel sizes of tomogram and model may differ by this share before the user is warned.
VOXEL_SIZE_SHARE = 0.1
#: Failed tomograms, and warnings, that a summary lists before it refers to the rest.
LISTED = 10
REFERENCE = "Stojanovska2025"
#: Of the plugin, before the names of its protocols.
NAME = "cryosiam"


class ClassLabel(ProtocolPart):
    """Mixed into a protocol: called after CryoSiam, not after the plugin's Python package."""

    @classmethod
    def getClassLabel(cls, prependPackageName: bool = True) -> str:
        """What the protocol is called in Scipion's trees, forms and workflows."""
        label = super().getClassLabel(prependPackageName=False)
        return f"{NAME} - {label}" if prependPackageName else label


class Information(ClassLabel):
    """Mixed into a protocol: nothing here computes, and all of it is quick."""

    #: What has been done to a tomogram, as in "3 tomograms denoised".
    _doneWord = "processed"

    def _emptyMessage(self) -> str:
        """What to say when there is no result at all."""
        return f"No tomogram could be {self._doneWord}."

    def _recordStatus(self, tsId: str, first: EngineStatus, last: EngineStatus) -> None:
        """Keep what the engine told about itself and about a tomogram."""
        with self._lock:
            record = self._record()
            record.update(
                model=first.model_name or "",
                sha256=first.model_sha256 or "",
                device=first.device or "",
                precision=first.precision or "",
                version=first.engine_version,
            )
            statuses = [first] if first is last else [first, last]
            note_engine(record, statuses)
            seconds = sum(sum(status.seconds.values()) for status in statuses)
            record.setdefault("seconds", {})[tsId] = round(seconds, 1)
            said = [warning for status in statuses for warning in status.warnings]
            if said:
                record.setdefault("warnings", {})[tsId] = said
            self.engineRecord.set(json.dumps(record, ensure_ascii=False))
            self._store(self.engineRecord)

    def _record(self) -> dict[str, Any]:
        text = self.engineRecord.get()
        return json.loads(text) if text else {}

    def _problems(self) -> list[str]:
        """Why the protocol cannot run."""
        problems = self._modelProblems()
        # The scheduler waits as long as there is a problem; an optional input alone is none to it.
        problems += [
            f"The {what}s are not there yet: wait for the protocol that makes them."
            for what, pointer in self._partners().items()
            if pointer.hasValue() and pointer.get() is None
        ]
        tomograms = self.inputTomograms.get()
        if tomograms is not None and tomograms.isStreamOpen() and self.numberOfThreads.get() < 3:
            problems.append(
                "The tomograms are still coming in (streaming): set Scipion threads to 3 or more, "
                "so that they are computed while others arrive."
            )
        return problems

    def _warnings(self) -> list[str]:
        model = self._model()
        tomograms = self.inputTomograms.get()
        if model is None or tomograms is None or not model.voxel_size:
            return []
        mine = tomograms.getSamplingRate()
        if abs(mine - model.voxel_size) <= VOXEL_SIZE_SHARE * model.voxel_size:
            return []
        return [
            f"The tomograms have a voxel size of {mine:.2f} Å, but the model {model.name} was "
            f"trained at {model.voxel_size:.2f} Å: it will see everything "
            f"{model.voxel_size / mine:.1f} times as large as it knows it. Better bin or rescale "
            "the tomograms first."
        ]

    def _summary(self) -> list[str]:
        output = getattr(self, self._primaryOutput, None)
        record, failures = self._record(), self._failures()
        lines = []
        done = record.get("seconds", {})
        if output is None and not failures:
            return ["No results yet."]
        if done:
            each = sum(done.values()) / len(done)
            device = record["device"].replace("cpu", "the CPU")
            lines.append(
                f"{counted(len(done), 'tomogram')} {self._doneWord}, {each:.0f} s each"
                + (f", on {device}." if device else ".")
            )
        if record.get("model"):
            lines.append(f"Model: {record['model']}{_short(record['sha256'])}.")
        lines += image_lines(record)
        lines += self._resultLines()
        if failures:
            lines += [
                "",
                f"*{counted(len(failures), 'tomogram')} failed* (output failedTomograms):",
            ]
            lines += self._failureLines()
        lines += _listed(
            [f"*{t}*: {w}" for t, ws in record.get("warnings", {}).items() for w in ws]
        )
        return lines

    def _resultLines(self) -> list[str]:
        """The protocol's own lines of the summary."""
        return []

    def _failureLines(self) -> list[str]:
        return _listed([f"*{tsId}*: {reason}" for tsId, reason in self._failures().items()])

    def _methods(self) -> list[str]:
        record = self._record()
        if not record:
            return []
        n_done = len(record.get("seconds", {}))
        model = ""
        if record.get("model"):
            model = f" with the model {record['model']} (SHA-256 {record['sha256'] or 'unknown'})"
        said = [
            f"{counted(n_done, 'tomogram')} {'was' if n_done == 1 else 'were'} {self._doneWord} "
            f"by CryoSiam [{REFERENCE}]{model}, "
            f"{self._methodsSettings()}using {engine_words(record)}.",
            configuration_sentence(record),
        ]
        return [sentence for sentence in said if sentence]

    def _methodsSettings(self) -> str:
        """The settings that a reader must know, ending in a comma and a blank; may be empty."""
        return ""

    def _citations(self) -> list[str]:
        return [REFERENCE]


def counted(number: int, noun: str) -> str:
    """Say how many, as in "1 tomogram", "2 tomograms"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(sha256: str) -> str:
    return f" (SHA-256 {sha256[:12]}...)" if sha256 else ""


def _listed(lines: list[str]) -> list[str]:
    rest = len(lines) - LISTED
    return lines[:LISTED] + ([f"... and {rest} more."] if rest > 0 else [])
