"""Read a YAML configuration: its values, and on which line every key stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cryosiam_engine.errors import ConfigurationError

#: A configuration has a few kilobytes; anything larger is a tomogram or a model given by mistake.
MAX_BYTES = 1_000_000

#: Where a key stands: ``("parameters", "network", "threshold")``.
KeyPath = tuple[str, ...]

_REMEDY = "Correct the configuration and run again."

# What PyYAML is known to let through for values such as 2020-13-45 or "!!bool maybe".
_PARSE_ERRORS = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class YamlDocument:
    """A configuration as it was read, before any key or value was checked.

    Parameters
    ----------
    path
        The file, for messages.
    values
        The sections and keys.
    lines
        Line of every key, counted from 1.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """Say on which line `key`, or else its section, stands: ``" (line 27)"`` or nothing.

        Parameters
        ----------
        key
            Path of the key.
        """
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return f" (line {self.lines[key[:length]]})"
        return ""


def read_yaml(path: str | Path) -> YamlDocument:
    """Read a configuration file without running anything that it may contain.

    Parameters
    ----------
    path
        The YAML file, UTF-8.

    Returns
    -------
    YamlDocument
        Its values and the lines of its keys.

    Raises
    ------
    ConfigurationError
        When the file is missing, a folder, unreadable, not UTF-8, empty, not YAML, not a list of
        keys, or gives a key twice.
    """
    file = Path(path)
    values, lines = _parse(_read_text(file), file)
    if values is None:
        raise ConfigurationError(
            f"{file}: the configuration is empty.",
            remedy="Write at least trained_model, data_folder and prediction_folder into it.",
        )
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{file}: expected lines of the form 'key: value', got {type(values).__name__}.",
            remedy=_REMEDY,
        )
    return YamlDocument(file, values, lines)


def _parse(text: str, path: Path) -> tuple[Any, dict[KeyPath, int]]:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines = _key_lines(node, path)
        return (None if node is None else loader.construct_document(node)), lines
    except ConfigurationError:
        raise
    except _PARSE_ERRORS as error:
        raise _not_yaml(error, text, path) from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such configuration file.",
            remedy="Check --config_file; a relative path starts at the folder you are in.",
        ) from error
    except IsADirectoryError as error:
        raise ConfigurationError(
            f"{path} is a folder, not a configuration file.",
            remedy="Give the YAML file inside it to --config_file.",
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{path}: the configuration cannot be read: {error.strerror or error}.",
            remedy="Check the path and the permissions of the file.",
        ) from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{path}: too large to be a configuration.",
            remedy="Give the YAML file, not a tomogram or a model, to --config_file.",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"{path}: line {line} is not UTF-8 text.",
            remedy="Save the configuration as UTF-8, or check that it is the YAML file.",
        ) from error


def _key_lines(root: yaml.Node | None, path: Path) -> dict[KeyPath, int]:
    """Note the line of every key and refuse a key that is given twice in one section."""
    lines: dict[KeyPath, int] = {}
    seen: set[int] = set()  # an anchor may be used often, even inside itself
    pending: list[tuple[yaml.Node | None, KeyPath]] = [(root, ())]
    while pending:
        node, section = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend((item, (*section, "[]")) for item in node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        for key_node, value_node in node.value:
            key = (*section, str(key_node.value))
            line = key_node.start_mark.line + 1
            if key in lines and "[]" not in key and key[-1] != "<<":
                raise ConfigurationError(
                    f"{path}: {'.'.join(key)} is given twice (lines {lines[key]} and {line}).",
                    remedy="Keep one of the two.",
                )
            lines[key] = line
            pending.append((value_node, key))
    return lines


def _not_yaml(error: BaseException, text: str, path: Path) -> ConfigurationError:
    """Turn a parser's complaint into one line that says where and what."""
    if isinstance(error, RecursionError):
        return ConfigurationError(f"{path}: nested too deeply.", remedy=_REMEDY)
    line = None
    problem = str(error).splitlines()[0] if str(error) else "a value cannot be understood"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        problem = error.problem or problem
    elif isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        problem = "a character that text files do not have"
    rows = text.split("\n")
    row = rows[line - 1] if line is not None and line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        problem = "a tab character"
    remedy = "Indent with spaces, never with tabs." if "tab character" in problem else _REMEDY
    place = "" if line is None else f"line {line}: "
    return ConfigurationError(f"{path}: {place}not valid YAML: {problem}.", remedy=remedy)
