"""Checked reading of the nested hyper-parameters of a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryosiam_engine.errors import CheckpointError

_REMEDY = (
    "The file is damaged or of another program: download it again, or set trained_model to a "
    "published CryoSiam checkpoint."
)


@dataclass(frozen=True)
class Section:
    """One mapping inside the hyper-parameters, which knows its place for error messages.

    Attributes
    ----------
    path
        The checkpoint file.
    place
        Dotted keys from the top, such as ``'hyper_parameters.config'``.
    values
        The mapping itself.
    """

    path: Path
    place: str
    values: Mapping[str, Any]

    @classmethod
    def root(cls, path: Path, hyper_parameters: Mapping[str, Any]) -> Section:
        """Make the outermost section."""
        return cls(path, "hyper_parameters", hyper_parameters)

    def has(self, *keys: str) -> bool:
        """Tell whether following `keys` one after the other leads to a value."""
        values: Any = self.values
        for key in keys:
            if not isinstance(values, Mapping) or values.get(key) is None:
                return False
            values = values[key]
        return True

    def get(self, key: str) -> Any:
        """Value of `key`, whatever its type.

        Raises
        ------
        CheckpointError
            When it is missing.
        """
        if not self.has(key):
            raise CheckpointError(f"{self.path} lacks {self.place}.{key}.", remedy=_REMEDY)
        return self.values[key]

    def inside(self, *keys: str) -> Section:
        """Section reached by following `keys`.

        Raises
        ------
        CheckpointError
            When one is missing or is not a mapping.
        """
        section = self
        for key in keys:
            values = section.get(key)
            if not isinstance(values, Mapping):
                raise section._wrong(key, "a group of settings")
            section = Section(self.path, f"{section.place}.{key}", values)
        return section

    def whole(self, key: str, allowed: Collection[int] = ()) -> int:
        """Positive whole number of `key`, one of `allowed` if that is given.

        Raises
        ------
        CheckpointError
            When it is missing or something else.
        """
        value = self.get(key)
        if not _is_positive(value) or (allowed and value not in allowed):
            raise self._wrong(key, f"one of {sorted(allowed)}" if allowed else "a positive number")
        return int(value)

    def wholes(self, key: str, count: int) -> tuple[int, ...]:
        """`count` positive whole numbers of `key`.

        Raises
        ------
        CheckpointError
            When they are missing, too few, too many or something else.
        """
        value = self.get(key)
        if not isinstance(value, list | tuple) or len(value) != count:
            raise self._wrong(key, f"a list of {count} numbers")
        if not all(_is_positive(item) for item in value):
            raise self._wrong(key, "a list of positive whole numbers")
        return tuple(int(item) for item in value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Truth value of `key`; without a `default` the key must be there.

        Raises
        ------
        CheckpointError
            When it is missing and has no default.
        """
        if default is not None and not self.has(key):
            return default
        return bool(self.get(key))

    def word(self, key: str, allowed: Collection[str]) -> Any:
        """Word of `key`, one of `allowed`.

        Raises
        ------
        CheckpointError
            When it is missing or another one.
        """
        value = self.get(key)
        if value not in allowed:
            raise self._wrong(key, f"one of {', '.join(allowed)}")
        return value

    def _wrong(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} has {self.place}.{key} = {self.values[key]!r}; it must be {expected}.",
            remedy=_REMEDY,
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
