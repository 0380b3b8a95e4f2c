"""Which tomograms a run is about, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryosiam_engine.config.base import RunConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import PARTIAL_MARK

#: What is added to a tomogram's name for the map of how sure its labels are.
CONFIDENCE_ENDING = "_confidence"

_COMPRESSED = (".gz", ".bz2")


def stem_of(path: str | Path, file_extension: str) -> str:
    """Name a tomogram: its file name without the file extension.

    Only the end of the name is cut, so ``TS_01.mrc_bin4.mrc`` is ``TS_01.mrc_bin4``. A file with
    another extension loses its own, together with one of compression.

    Parameters
    ----------
    path
        The tomogram.
    file_extension
        As in the configuration, with its dot.

    Examples
    --------
    >>> stem_of("tomograms/TS_56_6.80Apx.mrc", ".mrc")
    'TS_56_6.80Apx'
    >>> stem_of("TS_01.rec.gz", ".mrc")
    'TS_01'
    """
    name = Path(path).name
    if name.endswith(file_extension) and name != file_extension:
        return name[: -len(file_extension)]
    plain = Path(name)
    return (Path(plain.stem) if plain.suffix in _COMPRESSED else plain).stem


def written_extension(file_extension: str) -> str:
    """The extension of the MRC files that we write for such tomograms: never a compressed one.

    Examples
    --------
    >>> written_extension(".rec.gz")
    '.rec'
    """
    for ending in _COMPRESSED:
        file_extension = file_extension.removesuffix(ending)
    return file_extension or ".mrc"


def list_tomograms(config: RunConfig, filenames: Sequence[str] = ()) -> list[Path]:
    """List the tomograms of a run.

    They are `filenames`, else ``test_files``, else every file of ``data_folder`` that ends with
    ``file_extension``, sorted. The commands that work on predicted labels instead take all whose
    labels lie in ``prediction_folder``, and of their paths only the name counts.

    Parameters
    ----------
    config
        The configuration of the command.
    filenames
        File names from the command line, relative to ``data_folder`` or absolute, with or
        without the file extension.

    Returns
    -------
    list of Path
        At least one, every name once. A missing file stays in it, to fail alone later.

    Raises
    ------
    ConfigurationError
        When there is none, a folder cannot be listed, or two tomograms have one name.
    """
    names = list(filenames) or config.test_files
    if names is not None:
        paths = list(dict.fromkeys(_located(config, name) for name in names))
    elif config.result_endings:
        paths = _predicted(config)
    else:
        paths = _in_data_folder(config)
    if not paths:
        raise ConfigurationError(
            "test_files is an empty list: no tomogram to process.",
            remedy="Name tomograms in it, or set it to null for all of them.",
        )
    _refuse_equal_names(paths, config.file_extension)
    return paths


def _folder(config: RunConfig) -> Path:
    return config.data_folder if config.data_folder is not None else config.prediction_folder


def _located(config: RunConfig, name: str) -> Path:
    path = _folder(config) / name  # an absolute name replaces the folder
    extended = Path(f"{path}{config.file_extension}")
    if path.is_file() or path.name.endswith(config.file_extension):
        return path
    predictions = (config.prediction_folder / f"{name}{end}" for end in config.result_endings)
    return extended if any(file.is_file() for file in (extended, *predictions)) else path


def _predicted(config: RunConfig) -> list[Path]:
    """Tomograms whose labels or instances exist, as HDF5 or as MRC."""
    endings = [ending or config.file_extension for ending in config.result_endings]
    stems = {
        name.removesuffix(ending)
        for name in _file_names(config.prediction_folder, "prediction_folder")
        for ending in endings
        if name.endswith(ending)
    }
    # TS_01_preds.mrc matches twice: as labels of TS_01 and as a tomogram of that name; and its
    # confidence map is no labels.
    stems -= {f"{stem}{more}" for stem in stems for more in ("_preds", CONFIDENCE_ENDING)}
    if not stems:
        raise ConfigurationError(
            f"prediction_folder has no predicted labels: {config.prediction_folder}; looked for "
            f"names ending with {', '.join(endings)}.",
            remedy=f"Run {config.follows} first, with the same prediction_folder.",
        )
    return [_folder(config) / f"{stem}{config.file_extension}" for stem in sorted(stems)]


def _in_data_folder(config: RunConfig) -> list[Path]:
    folder = _folder(config)
    names = _file_names(folder, "data_folder")
    found = sorted(name for name in names if name.endswith(config.file_extension))
    if not found:
        raise ConfigurationError(
            f"data_folder has no file that ends with {config.file_extension}: {folder}.",
            remedy=_other_extension(names) or "Check data_folder and file_extension.",
        )
    return [folder / name for name in found]


def _file_names(folder: Path, key: str) -> list[str]:
    """Names of the files in a folder. A broken link counts: leaving it out would be silent."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"{key} cannot be listed: {folder}: {error.strerror or error}.",
            remedy=f"Correct {key} in the configuration; a relative path starts at the folder "
            "where the command runs.",
        ) from error
    return [
        entry.name
        for entry in entries
        if not entry.name.startswith(".")
        and PARTIAL_MARK not in entry.name
        and (entry.is_file() or (entry.is_symlink() and not entry.exists()))
    ]


def _other_extension(names: Iterable[str]) -> str:
    counts = Counter(Path(name).suffix for name in names if Path(name).suffix)
    if not counts:
        return ""
    suffix, count = counts.most_common(1)[0]
    return f"It has {count} that end with {suffix}: if they are tomograms, set file_extension."


def _refuse_equal_names(paths: Sequence[Path], file_extension: str) -> None:
    first: dict[str, Path] = {}
    for path in paths:
        stem = stem_of(path, file_extension)
        if first.setdefault(stem, path) != path:
            raise ConfigurationError(
                f"Two tomograms are called {stem}: {first[stem]} and {path}.",
                remedy="Rename one or process them into different prediction_folders: their "
                "results would have the same names.",
            )
