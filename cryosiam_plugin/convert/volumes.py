"""Volumes that the engine wrote, as items of Scipion's sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from pyworkflow.object import String
from tomo.objects import TomoAcquisition, Tomogram, TomoMask

from cryosiam_plugin.convert.engine_inputs import file_of
from cryosiam_plugin.mrc import write_voxel_size

#: Column of a mask with the names of its label values, as JSON.
LABEL_TABLE = "_labelTable"


def tomogram_from(source: Tomogram, path: str) -> Tomogram:
    """Make the tomogram that the engine wrote, with all that Scipion knew about its source.

    Parameters
    ----------
    source
        The tomogram it was computed from: gives tsId, voxel size, origin and acquisition.
    path
        The MRC file. Its voxel size is corrected where it is not the source's.

    Returns
    -------
    Tomogram
        Without half maps: those of the source are not halves of this one.
    """
    made = _described(Tomogram(), source)
    made.setCtfCorrected(source.ctfCorrected())
    return _settle(made, source, path)


def tomo_mask_from(source: Tomogram, path: str, class_table: Mapping[int, str]) -> TomoMask:
    """Make the mask that the engine wrote for a tomogram.

    Parameters
    ----------
    source
        The tomogram it belongs to.
    path
        Integer MRC, 0 is background. Its voxel size is corrected where it is not the source's.
    class_table
        Names of the label values; becomes a column of the set.
    """
    mask = _described(TomoMask(), source)
    _settle(mask, source, path)
    mask.setVolName(file_of(source))
    setattr(mask, LABEL_TABLE, String(format_label_table(class_table)))
    return mask


def format_label_table(class_table: Mapping[int, str]) -> str:
    """Write names of label values as JSON, in the order of the values."""
    ordered = {str(int(label)): str(class_table[label]) for label in sorted(class_table)}
    return json.dumps(ordered, ensure_ascii=False)


def label_table_of(mask: Tomogram) -> dict[int, str]:
    """Names of a mask's label values; empty for a mask that another program made."""
    return read_label_table(mask, LABEL_TABLE) or {}


def read_label_table(mask: Tomogram, name: str) -> dict[int, str] | None:
    """Read a column of a mask that has names as JSON; None where there is no such column."""
    column = getattr(mask, name, None)
    text = column.get() if isinstance(column, String) else None
    if not text:
        return None
    return {int(label): str(name) for label, name in json.loads(text).items()}


def _described(made: Any, source: Tomogram) -> Any:
    """Copy what Scipion knows about the source; its copyInfo fails without an acquisition."""
    if source.getAcquisition() is None:
        source = source.clone()
        source.setAcquisition(TomoAcquisition())
    made.copyInfo(source)
    return made


def _settle(made: Any, source: Tomogram, path: str) -> Any:
    made.setFileName(str(path))
    made.setSamplingRate(source.getSamplingRate())
    made.setHalfMaps([])
    made.setObjId(None)
    write_voxel_size(Path(path), source.getSamplingRate())
    return made
