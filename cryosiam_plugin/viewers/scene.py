"""What a slice viewer shows of one tomogram, first as file names, then opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Mapping, Sequence

from cryosiam_plugin.viewers.colours import ColourTable
from cryosiam_plugin.viewers.marks import Particle, ParticleMarks
from cryosiam_plugin.viewers.masks import Mask
from cryosiam_plugin.viewers.surfaces import SurfacePoints
from cryosiam_plugin.viewers.volumes import ViewerError, Volume, open_volume


@dataclass(frozen=True)
class MaskFile:
    """A file of labels.

    Attributes
    ----------
    path
        The file.
    title
        What it is.
    names
        Of its label values, where known.
    shown
        Whether it is shown at first.
    objects
        Whether its labels are numbers of objects, not classes.
    """

    path: Path
    title: str
    names: Mapping[int, str] = field(default_factory=dict)
    shown: bool = True
    objects: bool = False


def _no_particles() -> list[Particle]:
    return []


@dataclass(frozen=True)
class SceneFiles:
    """One tomogram with all that belongs to it.

    Attributes
    ----------
    name
        Of the tomogram, as in the list.
    tomogram
        Its file.
    voxel_size
        In Å; 0 takes the file's.
    title, beside_title
        What the two pictures are: ``raw``, ``denoised`` ...
    beside
        The volume shown next to it, of the same size.
    masks
        Shown over both.
    particles
        Gives the particles when called: a set may hold many thousands.
    box_size
        Of the particles, in voxels.
    n_particles
        How many there are, for the list; None where that is not known.
    surfaces
        Gives points on the surfaces of objects when called.
    notes
        Shown to the user: why something is missing.
    """

    name: str
    tomogram: Path
    voxel_size: float = 0.0
    title: str = "tomogram"
    beside: Path | None = None
    beside_title: str = "denoised"
    masks: Sequence[MaskFile] = ()
    particles: Callable[[], list[Particle]] = _no_particles
    box_size: float = 20.0
    n_particles: int | None = None
    surfaces: Callable[[], SurfacePoints] = SurfacePoints
    notes: Sequence[str] = ()


@dataclass
class Scene:
    """A tomogram opened: one or two volumes, masks, particles."""

    name: str
    #: Title and volume of each picture, from left to right; all of one shape.
    pictures: list[tuple[str, Volume]]
    masks: list[Mask]
    marks: ParticleMarks
    colours: ColourTable
    notes: list[str]
    surfaces: SurfacePoints = field(default_factory=SurfacePoints)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels `(z, y, x)`."""
        return self.pictures[0][1].shape

    @property
    def voxel_size(self) -> float:
        """In Å; 0 where unknown."""
        return self.pictures[0][1].voxel_size

    def facts(self) -> str:
        """Name, size and voxel size in a line."""
        voxel = f"{self.voxel_size:.2f} Å" if self.voxel_size > 0 else "voxel size unknown"
        return f"{self.name}    {_size(self.pictures[0][1])} voxels    {voxel}"


def open_scene(files: SceneFiles) -> Scene:
    """Open a tomogram with all that belongs to it.

    Only the tomogram itself must be there: what else is missing, or of another size, is left
    out, and a note says so.

    Raises
    ------
    ViewerError
        When the tomogram cannot be opened.
    """
    tomogram = open_volume(files.tomogram, files.voxel_size)
    notes = list(files.notes)
    pictures = [(files.title, tomogram)]
    beside = _matching(files.beside, tomogram, notes) if files.beside is not None else None
    if beside is not None:
        pictures.append((files.beside_title, beside))
    colours = ColourTable()
    masks = []
    for mask in files.masks:
        volume = _matching(mask.path, tomogram, notes)
        if volume is not None:
            shown, objects = mask.shown, mask.objects
            masks.append(
                Mask(mask.title, volume, mask.names, colours, shown=shown, objects=objects)
            )
    try:
        particles = files.particles()
    except ViewerError as error:
        notes.append(str(error))
        particles = []
    marks = ParticleMarks(particles, files.box_size)
    return Scene(files.name, pictures, masks, marks, colours, notes, files.surfaces())


def _matching(path: Path, tomogram: Volume, notes: list[str]) -> Volume | None:
    """A volume of the tomogram's size, or None and a note why not."""
    try:
        volume = open_volume(path, tomogram.voxel_size)
    except ViewerError as error:
        notes.append(str(error))
        return None
    if volume.shape != tomogram.shape:
        notes.append(
            f"{path.name} is left out: it has {_size(volume)} voxels (x, y, z), "
            f"the tomogram {_size(tomogram)}."
        )
        return None
    return volume


def _size(volume: Volume) -> str:
    return " x ".join(str(n) for n in reversed(volume.shape))
