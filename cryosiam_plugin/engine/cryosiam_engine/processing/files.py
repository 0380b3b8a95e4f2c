"""Which files a processing command reads and writes, and the loop over them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryosiam_engine.config import stem_of, written_extension
from cryosiam_engine.errors import ConfigurationError, TomogramError
from cryosiam_engine.files import PARTIAL_MARK
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.run import Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.status import status_folder

logger = logging.getLogger(__name__)

#: How the names of tomograms end, the one to take first.
VOLUME_ENDINGS = (".mrc", ".rec", ".mrc.gz", ".rec.gz", ".mrc.bz2", ".rec.bz2")


def volume_files(folder: Path, endings: Sequence[str] = VOLUME_ENDINGS) -> list[Path]:
    """List the volumes in a folder, sorted by name; hidden and half-written ones do not count.

    Parameters
    ----------
    folder
        Where to look, not below it.
    endings
        How their names end.

    Raises
    ------
    ConfigurationError
        When the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"The folder {folder} cannot be listed: {error.strerror or error}.",
            remedy=f"Correct the path; relative ones start at {Path.cwd()}.",
        ) from error
    # A broken link counts: it shall fail by its name, not be left out in silence.
    return [
        entry
        for entry in entries
        if entry.name.endswith(tuple(endings))
        and not entry.name.startswith(".")
        and PARTIAL_MARK not in entry.name
        and not entry.is_dir()
    ]


def input_tomograms(path: Path) -> list[Tomogram]:
    """The tomograms that an input path means: one file, or all of a folder.

    Raises
    ------
    ConfigurationError
        When there is none, or two have the same name.
    """
    paths = volume_files(path) if path.is_dir() else [path]
    if not paths:
        raise ConfigurationError(
            f"No tomograms in {path}; looked for names ending with {', '.join(VOLUME_ENDINGS)}.",
            remedy="Give the folder of the tomograms, or one of them.",
        )
    first: dict[str, Path] = {}
    for file in paths:
        name = tomogram_stem(file.name)
        if first.setdefault(name, file) != file:
            raise ConfigurationError(
                f"Two tomograms are called {name}: {first[name].name} and {file.name}.",
                remedy="Put one of them into another folder.",
            )
    return [Tomogram(file, name) for name, file in first.items()]


def output_files(
    tomograms: Iterable[Tomogram], input_path: Path, output_path: Path
) -> dict[str, Path]:
    """Where the result of every tomogram goes, by stem.

    Parameters
    ----------
    tomograms
        Of :func:`input_tomograms`.
    input_path, output_path
        As the user gave them. The output is a file only if the input is one and it is named
        like one.

    Raises
    ------
    ConfigurationError
        When a result would replace a tomogram.
    """
    is_file = not input_path.is_dir() and output_path.name.endswith((".mrc", ".rec"))
    results: dict[str, Path] = {}
    for tomogram in tomograms:
        ending = written_extension(tomogram.path.name[len(tomogram.stem) :])
        name = f"{tomogram.stem}{ending}"
        results[tomogram.stem] = output_path if is_file else output_path / name
        refuse_overwriting(results[tomogram.stem], tomogram.path)
    return results


def refuse_overwriting(result: Path, source: Path) -> None:
    """Refuse a result that would replace what it is made from.

    Raises
    ------
    ConfigurationError
        When both are the same file.
    """
    if result.resolve() == source.resolve():
        raise ConfigurationError(
            f"The result would overwrite {source}.", remedy="Choose another output folder."
        )


def tomogram_file(path: Path, name: str) -> Path:
    """The tomogram of a name: `path` itself where it is a file, else the one in that folder.

    Parameters
    ----------
    path
        A tomogram that stands for all, or a folder of tomograms.
    name
        The tomogram's name without extension.

    Raises
    ------
    TomogramError
        When the folder has no tomogram of that name.
    """
    if not path.is_dir():
        return path
    for ending in VOLUME_ENDINGS:
        file = path / f"{name}{ending}"
        if file.is_file():
            return file
    raise TomogramError(
        f"No tomogram {name} in {path}.",
        remedy="Particles and files must name the tomograms alike: compare the names in the "
        "coordinates file with those in the folder.",
    )


def process(command: TomogramCommand, folder: Path, tomograms: Sequence[Tomogram]) -> int:
    """Run a command over tomograms; each fails alone, and finished ones are not made again.

    Parameters
    ----------
    command
        What is done to each.
    folder
        Where the results go; status files go to ``status/<command>`` in it.
    tomograms
        What to process.

    Returns
    -------
    int
        0: every tomogram has a result; 1: some failed.
    """
    report = TomogramLoop(command, status_folder(folder, command.name)).run(tomograms)
    logger.info(
        "%d done, %d finished before, %d failed. Results in %s",
        len(report.done),
        len(report.skipped),
        len(report.failed),
        folder,
    )
    for name, reason in sorted(report.failed.items()):
        logger.error("%s has no result: %s", name, reason)
    return report.exit_code


def stems_in(folder: Path) -> dict[str, Path]:
    """The volumes in a folder by their stem; of two with one stem the first ending counts."""
    found: dict[str, Path] = {}
    for ending in VOLUME_ENDINGS:
        for file in volume_files(folder, (ending,)):
            found.setdefault(stem_of(file, ending), file)
    return found
