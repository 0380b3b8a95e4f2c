"""The configuration that a run really had: every key the command knows, with its default."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import AliasPath, BaseModel

from cryosiam_engine.config.base import RunConfig


def effective_yaml(config: RunConfig) -> str:
    """Write a configuration as YAML, such that reading it gives the same configuration.

    Parameters
    ----------
    config
        Of any command.

    Returns
    -------
    str
        All keys that the command knows, in the sections of CryoSiam's files; paths are absolute
        only where they were given so.
    """
    head = f"# Every key that {config.command} reads, with its value in this run.\n"
    return head + yaml.safe_dump(_sections(config), sort_keys=False, allow_unicode=True)


def _sections(model: BaseModel) -> dict[str, Any]:
    values: dict[str, Any] = {}
    plain = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        if not isinstance(field.validation_alias, AliasPath):
            raise TypeError("every field of a configuration needs the path of its key")
        *sections, last = (str(part) for part in field.validation_alias.path)
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            place.setdefault(last, {}).update(_sections(value))
        else:
            place[last] = plain[name]
    return values
