"""Inert values in place of the classes and functions that a checkpoint may name.

A checkpoint written by Lightning names more than tensors: the class of its settings, paths, numpy
numbers, a scheduler's function. Each such name is answered here by something that can only hold
data, so that none of the named packages is imported and none of the named code is run.
"""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

#: Bounds for settings: far above any real description of a network, and low enough that a file
#: made to nest without end is refused at once.
_MOST_VALUES = 100_000
_DEEPEST = 64

_DTYPE_CODE = re.compile(r"[biufSU][0-9]{1,4}")


class _NewDict:
    """For Lightning's AttributeDict: making one gives a plain dict, which is then filled."""

    def __new__(cls, *_arguments: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


class _Namespace:
    """For ``argparse.Namespace``: holds the attributes as data."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.values = state

    def __new__(cls) -> _Namespace:
        namespace = super().__new__(cls)
        namespace.values = {}
        return namespace


class _NumpyDtype:
    """For ``numpy.dtype``: numbers and text only, so never one that holds objects."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, _align: object = False, _copy: object = False) -> None:
        if type(code) is not str or not _DTYPE_CODE.fullmatch(code):
            raise ValueError(f"numpy type {str(code)[:20]!r} is not one of numbers or text")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _NumpyArray:
    """For ``numpy.ndarray``: holds the values as nested lists."""

    __slots__ = ("values",)

    def __init__(self, *_arguments: Any) -> None:
        self.values: Any = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, data = state
        flat = np.frombuffer(data, dtype=dtype.real())
        self.values = flat.reshape(shape, order="F" if column_major else "C").tolist()


class _BareTensor(torch.Tensor):
    """For MONAI's MetaTensor (a logged loss may be one): the tensor without its metadata."""

    def __setstate__(self, _state: Any) -> None:
        """Drop what the file would set as attributes."""


def _empty_dict(*_arguments: Any) -> dict[Any, Any]:
    return {}


def _nothing(*_arguments: Any) -> None:
    """For functions and classes that are named but not needed; ``getattr`` above all."""


def _numpy_scalar(dtype: _NumpyDtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype=dtype.real(), count=1)[0].item()


def _text(value: Any = "") -> str:
    return value if type(value) is str else ""


def _posix_path(*parts: str) -> str:
    return str(pathlib.PurePosixPath(*parts))


def _windows_path(*parts: str) -> str:
    return str(pathlib.PureWindowsPath(*parts))


def _stand_ins() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in (
        "lightning.fabric.utilities.data",
        "lightning_fabric.utilities.data",
        "lightning.pytorch.utilities.parsing",
        "pytorch_lightning.utilities.parsing",
    ):
        yield f"{module}.AttributeDict", _NewDict
    yield "argparse.Namespace", _Namespace
    yield "collections.defaultdict", _empty_dict
    for factory in ("bool", "dict", "float", "int", "list", "str", "tuple"):
        yield f"builtins.{factory}", _nothing
    # One-cycle schedules of older PyTorch kept their annealing function, named through getattr.
    yield "builtins.getattr", _nothing
    yield "torch.optim.lr_scheduler.OneCycleLR", _nothing
    for module in ("pathlib", "pathlib._local"):
        for kind in ("Path", "PosixPath", "PurePath", "PurePosixPath"):
            yield f"{module}.{kind}", _posix_path
        for kind in ("WindowsPath", "PureWindowsPath"):
            yield f"{module}.{kind}", _windows_path
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        yield f"{module}.scalar", _numpy_scalar
        yield f"{module}._reconstruct", _NumpyArray
    yield "numpy.ndarray", _nothing
    yield "numpy.dtype", _NumpyDtype
    yield "monai.data.meta_tensor.MetaTensor", _BareTensor
    for kind in ("MetaKeys", "SpaceKeys", "TraceKeys"):
        yield f"monai.utils.enums.{kind}", _text


#: Full name in the file → what is used in its place.
STAND_INS: dict[str, Callable[..., Any]] = dict(_stand_ins())


def plain(value: Any) -> Any:
    """Turn what was read from a checkpoint into plain JSON types.

    Tuples, sets, arrays and tensors become lists, keys become text, and anything that JSON does
    not know becomes its text.

    Parameters
    ----------
    value
        Settings, as the checkpoint nests them.

    Returns
    -------
    dict, list, str, int, float, bool or None
        The same, of these types at every depth.

    Raises
    ------
    ValueError
        When the value nests deeper, or holds more, than any description of a network does.
    """
    return _plain(value, 0, itertools.count())


def _plain(value: Any, depth: int, counted: Iterator[int]) -> Any:
    if depth > _DEEPEST or next(counted) > _MOST_VALUES:
        raise ValueError("the settings nest too deep or hold too much")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if isinstance(value, (_Namespace, _NumpyArray)):
        value = value.values
    elif isinstance(value, torch.Tensor):
        value = _tensor_values(value)
    if isinstance(value, dict):
        # dict.items, not value.items: a file may put attributes on an OrderedDict.
        return {
            key if isinstance(key, str) else str(key): _plain(item, depth + 1, counted)
            for key, item in dict.items(value)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1, counted) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(item, depth + 1, counted) for item in sorted(value, key=repr)]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _tensor_values(tensor: torch.Tensor) -> Any:
    if tensor.numel() > _MOST_VALUES:
        raise ValueError("the settings hold too much")
    return torch.Tensor.detach(tensor).as_subclass(torch.Tensor).tolist()
