"""Whether a training that goes on still learns from the files that it was begun with."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import write_text
from cryosiam_engine.training.following import followed
from cryosiam_engine.training.volumes import DISTANCES, LABELS, TrainingVolume
from cryosiam_engine.volume.header import HEADER_BYTES

logger = logging.getLogger(__name__)

INPUTS_FILE = "training_inputs.json"

#: Of grey values so many blocks, evenly spread, are looked at: another reconstruction or filter
#: changes all of them. Labels are read whole, because a single particle may have been added.
_BLOCKS, _BLOCK = 64, 1 << 16
#: Names that a message lists.
_LISTED = 5


@dataclass(frozen=True)
class InputFile:
    """What a file was like: bytes, time of change, and a checksum of what it holds.

    A copy with another time of change is the same file.
    """

    size: int
    mtime_ns: int
    checksum: str

    @classmethod
    def of(cls, path: Path, kind: str) -> InputFile:
        """Look at a file; `kind` is one of those of a :class:`TrainingVolume`."""
        state = path.stat()
        return cls(state.st_size, state.st_mtime_ns, _checksum(path, state.st_size, kind))

    def is_same(self, path: Path, kind: str) -> bool:
        """Whether the file at `path` holds the same."""
        state = path.stat()
        if state.st_size != self.size:
            return False
        if state.st_mtime_ns == self.mtime_ns:
            return True
        return _checksum(path, state.st_size, kind) == self.checksum


def write_inputs(log_dir: Path, volumes: Sequence[TrainingVolume]) -> None:
    """Note all files of a training that begins, in ``log_dir/training_inputs.json``.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    files = [*_files(volumes).items()]
    found = {
        name: asdict(InputFile.of(path, kind))
        for name, (path, kind) in followed(files, "Noting the files of the training")
    }
    write_text(log_dir / INPUTS_FILE, json.dumps(found, indent=1) + "\n")


def check_inputs(log_dir: Path, volumes: Sequence[TrainingVolume]) -> None:
    """Compare all files with those that the training was begun with.

    An earlier version of the engine noted none; then it is said, and nothing compared.

    Parameters
    ----------
    log_dir
        Of the training.
    volumes
        That it would go on with.

    Raises
    ------
    ConfigurationError
        Naming what has changed.
    """
    before = _noted(log_dir / INPUTS_FILE)
    if before is None:
        logger.warning(
            "It is not known from which files the training in %s was begun (by an earlier version "
            "of this engine): make sure yourself that they are the same.",
            log_dir,
        )
        return
    now = _files(volumes)
    changed = sorted(before.keys() ^ now.keys())
    common = [(name, *now[name]) for name in sorted(before.keys() & now.keys())]
    changed += [
        name
        for name, path, kind in followed(common, "Comparing the files of the training")
        if not before[name].is_same(path, kind)
    ]
    if changed:
        raise _changed_error(log_dir, changed)


def _files(volumes: Sequence[TrainingVolume]) -> dict[str, tuple[Path, str]]:
    """Path and kind of each file, by a name that stays when folders are moved."""
    found = {}
    for volume in volumes:
        files = dict(volume.files)
        if volume.distances is not None:
            files[DISTANCES] = volume.distances
        found.update({f"{kind}/{path.name}": (path, kind) for kind, path in files.items()})
    return found


def _noted(path: Path) -> Mapping[str, InputFile] | None:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): InputFile(**values) for name, values in noted.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is damaged: {error}.",
            remedy="Set continue_training to False to begin anew.",
        ) from error


def _checksum(path: Path, size: int, kind: str) -> str:
    """Of what the file holds; its header may tell the time of writing."""
    digest = hashlib.blake2b(digest_size=16)
    n_blocks = -(-size // _BLOCK)
    step = 1 if kind == LABELS else max(1, n_blocks // _BLOCKS)
    with path.open("rb") as stream:
        for block in range(0, n_blocks, step):
            start = max(block * _BLOCK, HEADER_BYTES)
            stream.seek(start)
            digest.update(stream.read((block + 1) * _BLOCK - start))
    return digest.hexdigest()


def _changed_error(log_dir: Path, changed: Sequence[str]) -> ConfigurationError:
    more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
    return ConfigurationError(
        f"The training in {log_dir} was begun with other files than those given now: "
        f"{', '.join(changed[:_LISTED])}{more} changed, came or went.",
        remedy="To go on, give the files of then. To learn from those of now, begin anew: set "
        "continue_training to False (in Scipion: Restart), which replaces the models in log_dir, "
        "or choose another log_dir.",
    )
