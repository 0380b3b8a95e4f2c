"""Options of sbatch that a user gives beside those that we ask for."""

from __future__ import annotations

import re
import shlex
from typing import Iterator, Sequence

from .errors import SlurmError

#: What a run depends on.
_OURS = (
    *("job-name", "array", "output", "error", "input", "open-mode", "wrap", "clusters", "signal"),
    *("dependency", "kill-on-invalid-dep", "wait", "requeue", "no-requeue", "parsable"),
    *("test-only", "help", "usage", "version"),
)
_OURS_SHORT = "JaoeiMdWhV"
#: What has a place of its own, because it is changed when a task is tried again.
_ELSEWHERE = {"mem": "memory", "time": "time", "t": "time"}
EXCLUDE, _SHORT_EXCLUDE = "exclude", "x"
_EXAMPLE = "Write it as in a job script, such as --constraint=a100."


def check_options(options: Sequence[str]) -> None:
    """Refuse what is no option of sbatch, and options that a run depends on.

    Parameters
    ----------
    options
        As :func:`read_option` reads them.

    Raises
    ------
    SlurmError
        Naming the option.
    """
    for option in joined(options):
        name, value = read_option(option)
        if _is_ours(name):
            raise SlurmError(
                f"'{option}' cannot be given to sbatch: job arrays are submitted and followed by "
                "it.",
                remedy="Leave it out.",
                about=("options",),
            )
        if name in _ELSEWHERE:
            raise SlurmError(
                f"'{option}' is changed when a task is tried again, and no other option.",
                remedy=f"Give the {_ELSEWHERE[name]} of each task where it is asked for.",
                about=(_ELSEWHERE[name],),
            )
        if re.search(r"\s--?[A-Za-z]", value or "") and not re.search(r"['\"]", option):
            raise SlurmError(
                f"'{option}' has more than one option in it.",
                remedy="Give them one by one; or put a value with blanks in quotes.",
                about=("options",),
            )


def _is_ours(name: str) -> bool:
    # sbatch takes the beginning of an option for all of it.
    return name in _OURS_SHORT if len(name) == 1 else any(o.startswith(name) for o in _OURS)


def read_option(text: str) -> tuple[str, str | None]:
    """Read one option.

    Parameters
    ----------
    text
        ``--name=value``, ``--name value``, ``-n value``, ``-nvalue`` or ``--name``; the value may
        be in quotes.

    Returns
    -------
    name : str
        Without hyphens.
    value : str or None
        Without quotes; None for an option that has none.

    Raises
    ------
    SlurmError
        When it is none.

    Examples
    --------
    >>> read_option("--constraint='a b'"), read_option("-x n1"), read_option("--exclusive")
    (('constraint', 'a b'), ('x', 'n1'), ('exclusive', None))
    """
    found = re.match(r"(?:--([A-Za-z][A-Za-z0-9-]+)(?:=|\s+|$)|-([A-Za-z])(?!-)=?\s*)(.*)$", text)
    if not found or "\n" in text:
        raise SlurmError(f"'{text}' is no option of sbatch.", remedy=_EXAMPLE, about=("options",))
    long, short, value = found.groups()
    return long or short, _unquoted(value.strip()) or None


def written_options(options: Sequence[str], avoid: Sequence[str]) -> Iterator[str]:
    """Write options as a job script has them.

    Parameters
    ----------
    options
        Those of the user.
    avoid
        Nodes that are to be left out beside the user's own.
    """
    left_out = list(avoid)
    for option in joined(options):
        name, value = read_option(option)
        if name in (EXCLUDE, _SHORT_EXCLUDE) and value:
            left_out.append(value)
        else:
            yield written_option(name, value)
    if left_out:
        yield written_option(EXCLUDE, ",".join(dict.fromkeys(left_out)))


def written_option(name: str, value: str | None) -> str:
    """Write an option as a job script has it, its value in quotes where it needs them."""
    if value is None:
        return f"-{name}" if len(name) == 1 else f"--{name}"
    quoted = shlex.quote(value)
    return f"-{name} {quoted}" if len(name) == 1 else f"--{name}={quoted}"


def joined(words: Sequence[str]) -> tuple[str, ...]:
    """Put values that stand alone behind their options: ``-x n1`` is one option.

    Parameters
    ----------
    words
        As a shell divides a line.

    Examples
    --------
    >>> joined(["-x", "n1", "--exclusive", "--constraint=a b"])
    ('-x n1', '--exclusive', '--constraint=a b')
    """
    options: list[str] = []
    for word in words:
        if options and not word.startswith("-") and not re.search(r"[=\s]", options[-1]):
            options[-1] += f" {shlex.quote(word)}"
        else:
            options.append(word)
    return tuple(options)


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"') and value[-1:] == value[:1]:
        try:
            words = shlex.split(value)
        except ValueError:
            return value
        return words[0] if len(words) == 1 else value
    return value
