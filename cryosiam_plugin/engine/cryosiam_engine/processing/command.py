"""The ``processing_*`` commands on the command line; everything heavy is imported when they run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from cryosiam_engine.errors import ConfigurationError


@dataclass(frozen=True)
class ProcessingCommand:
    """One command of the package.

    Attributes
    ----------
    text
        What it does, for the help.
    module
        Where its ``run(args)`` is, in this package.
    add_options
        Declares its own options.
    """

    text: str
    module: str
    add_options: Callable[[argparse.ArgumentParser], None]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options, and how it is run.

        Parameters
        ----------
        parser
            Of the command.
        """
        self.add_options(parser)
        parser.set_defaults(run=self.run)

    def run(self, args: argparse.Namespace) -> int:
        """Run the command.

        Returns
        -------
        int
            0: all done; 1: some tomograms failed.

        Raises
        ------
        EngineError
            When the run cannot begin.
        Interrupted
            When the process was asked to stop.
        """
        module = import_module(f"cryosiam_engine.processing.{self.module}")
        return int(module.run(args))


def _add_input_and_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input_path", required=True, metavar="PATH", help="a tomogram (.mrc, .rec) or a folder"
    )
    parser.add_argument(
        "--output_path", required=True, metavar="PATH", help="the new file, or a folder for them"
    )


def _add_invert_scale(parser: argparse.ArgumentParser) -> None:
    _add_input_and_output(parser)
    add = parser.add_argument
    add("--invert", action="store_true", help="multiply by -1: dark protein becomes bright")
    add(
        "--lower_end_percentage",
        type=float,
        metavar="P",
        help="percentile that becomes 0; recommended for training: 0.1",
    )
    add(
        "--upper_end_percentage",
        type=float,
        metavar="Q",
        help="percentile that becomes 1; recommended for training: 99.9",
    )


def _add_coordinates(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--coordinates_file",
        required=True,
        metavar="FILE",
        help="STAR (RELION 3 to 5) or CSV (centroid-0, -1, -2 = z, y, x and tomo)",
    )
    add(
        "--tomogram_path",
        required=True,
        metavar="PATH",
        help="folder of the tomograms, or one tomogram whose size all have",
    )
    _add_particle_options(parser)


def _add_particle_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output_dir", required=True, metavar="FOLDER", help="one mask <tomogram>.mrc each")
    add("--tomo_name", metavar="NAME", help="only this tomogram")
    add(
        "--coordinates_pixel_size",
        type=float,
        metavar="ANGSTROM",
        help="of coordinates in pixels, where it is not the tomogram's (RELION 4 counts pixels "
        "of the unbinned tilt series)",
    )


def _add_sphere_mask(parser: argparse.ArgumentParser) -> None:
    _add_coordinates(parser)
    parser.add_argument(
        "--sphere_radius", type=float, required=True, metavar="VOXELS", help="of every particle"
    )


def _add_sphere_mask_multiclass(parser: argparse.ArgumentParser) -> None:
    _add_coordinates(parser)
    parser.add_argument(
        "--sphere_radius",
        required=True,
        metavar="VOXELS,...",
        help="one radius for each class from 1 on, with commas between them",
    )


def _add_binary_map_after_sta(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--star_file", required=True, metavar="FILE", help="particles with RELION's angles")
    add("--map_file", required=True, metavar="FILE", help="average map (.mrc)")
    add("--map_threshold", type=float, required=True, help="density from which on it is particle")
    add(
        "--example_tomogram",
        required=True,
        metavar="PATH",
        help="one tomogram whose size all have, or a folder of tomograms",
    )
    _add_particle_options(parser)


def _add_multiclass_from_binary_masks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--root_binary_masks_folder",
        required=True,
        metavar="FOLDER",
        help="has a folder of masks for each class; sorted by name they are classes 1, 2, ...",
    )
    add("--output_dir", required=True, metavar="FOLDER", help="one mask <tomogram>.mrc each")
    add("--tomo_name", metavar="NAME", help="only this tomogram")


def _add_match_pixel_size(parser: argparse.ArgumentParser) -> None:
    _add_input_and_output(parser)
    add = parser.add_argument
    add("--pixel_size", type=float, required=True, metavar="ANGSTROM", help="wanted voxel size")
    add(
        "--input_pixel_size",
        type=float,
        metavar="ANGSTROM",
        help="voxel size of the input, where its header is wrong",
    )
    add(
        "--smooth",
        action="store_true",
        help="let the highest frequencies fade out, so that sharp edges do not ring",
    )


#: Every command by its name.
COMMANDS: dict[str, ProcessingCommand] = {
    "processing_invert_scale": ProcessingCommand(
        "invert the contrast and scale grey values to [0, 1]", "invert_scale", _add_invert_scale
    ),
    "processing_create_sphere_mask": ProcessingCommand(
        "masks with a ball at every particle", "sphere_masks", _add_sphere_mask
    ),
    "processing_create_sphere_mask_multiclass": ProcessingCommand(
        "masks with a ball at every particle, numbered by its class",
        "sphere_masks",
        _add_sphere_mask_multiclass,
    ),
    "processing_create_binary_map_after_sta": ProcessingCommand(
        "masks with the average map placed at every particle",
        "map_masks",
        _add_binary_map_after_sta,
    ),
    "processing_create_multiclass_from_binary_masks": ProcessingCommand(
        "one mask of all classes from a mask of each",
        "class_masks",
        _add_multiclass_from_binary_masks,
    ),
    "processing_match_pixel_size": ProcessingCommand(
        "bring tomograms to another voxel size", "pixel_size", _add_match_pixel_size
    ),
}


def run(args: argparse.Namespace) -> int:
    """Run the command named in ``args.command``.

    Raises
    ------
    ConfigurationError
        When there is no such command.
    """
    if args.command not in COMMANDS:
        raise ConfigurationError(
            f"{args.command} is no processing command.", remedy=f"They are {', '.join(COMMANDS)}."
        )
    return COMMANDS[args.command].run(args)
