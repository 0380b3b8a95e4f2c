"""Open the slice viewer: from Scipion or from a shell (`python -m ... TOMOGRAM`)."""

from __future__ import annotations

import argparse
import sys
import tkinter as tk
from pathlib import Path
from typing import Sequence

from cryosiam_plugin.viewers.marks import read_particles_csv
from cryosiam_plugin.viewers.scene import MaskFile, SceneFiles, open_scene
from cryosiam_plugin.viewers.slice_window import SliceWindow
from cryosiam_plugin.viewers.tomogram_list import TomogramList, open_window
from cryosiam_plugin.viewers.volumes import ViewerError


def show_tomograms(
    tomograms: Sequence[SceneFiles], title: str, master: tk.Misc | None = None
) -> None:
    """Show one tomogram, or a list of several to choose from.

    Parameters
    ----------
    tomograms
        At least one.
    title
        Of the list.
    master
        A window of the program that asks; without any, this returns when ours are closed.
    """
    root = None
    if master is None:
        root = master = tk.Tk()
        root.withdraw()
    if len(tomograms) == 1:
        open_window(master, tomograms[0])
    else:
        TomogramList(master, title, tomograms)
    while root is not None and root.winfo_children():
        root.wait_window(root.winfo_children()[0])
    if root is not None:
        root.destroy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the tomogram that the command line names; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        scene = open_scene(_files(options))
    except ViewerError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        root = tk.Tk(className="cryosiam")
    except tk.TclError as error:
        sys.stderr.write(f"No window can be opened: {error}. Is DISPLAY set (ssh -X)?\n")
        return 2
    SliceWindow(root, scene)
    root.mainloop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cryosiam_plugin.viewers.slice_viewer",
        description="Look at a tomogram slice by slice, with masks and particles over it.",
    )
    parser.add_argument("tomogram", type=Path, help="MRC file, opened without reading it whole")
    parser.add_argument(
        "--beside", type=Path, help="a second volume of the same size, e.g. denoised"
    )
    parser.add_argument(
        "--labels", type=Path, action="append", default=[], help="mask (MRC or HDF5); repeatable"
    )
    parser.add_argument(
        "--names", default="", help="of the first mask's labels, e.g. 1=membrane,2=ribosome"
    )
    parser.add_argument("--particles", type=Path, help="CSV table of centres in voxels")
    parser.add_argument("--box", type=float, default=20.0, help="of the particles, in voxels")
    parser.add_argument("--voxel-size", type=float, default=0.0, help="in Å (default: the file's)")
    return parser


def _files(options: argparse.Namespace) -> SceneFiles:
    name = options.tomogram.stem
    names = _class_names(options.names)
    masks: list[MaskFile] = []
    for number, path in enumerate(options.labels):
        masks.append(MaskFile(path, path.stem, names if number == 0 else {}))
    table = options.particles
    return SceneFiles(
        name=name,
        tomogram=options.tomogram,
        voxel_size=options.voxel_size,
        beside=options.beside,
        beside_title="beside",
        masks=masks,
        particles=lambda: read_particles_csv(table, name) if table is not None else [],
        box_size=options.box,
    )


def _class_names(text: str) -> dict:
    names = {}
    for part in filter(None, text.split(",")):
        label, _, name = part.partition("=")
        if not label.strip().isdigit() or not name.strip():
            raise ViewerError(f"--names: {part!r} is not of the form 2=ribosome.")
        names[int(label)] = name.strip()
    return names


if __name__ == "__main__":
    raise SystemExit(main())
