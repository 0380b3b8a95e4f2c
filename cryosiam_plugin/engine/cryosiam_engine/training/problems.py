"""What is wrong with several files is told at once."""

from __future__ import annotations

from collections.abc import Sequence

from cryosiam_engine.errors import EngineError

#: Of so many files a message says what is wrong.
_MOST_TOLD = 10


def raise_together(problems: Sequence[EngineError], n_files: int, what: str) -> None:
    """Raise what was met with single files as one error, of the kind of the first.

    Parameters
    ----------
    problems
        None, one or more.
    n_files
        How many were looked at.
    what
        They are: ``tomograms``.

    Raises
    ------
    EngineError
        Unless there is no problem.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    told = [problem.message for problem in problems[:_MOST_TOLD]]
    told += [f"And {len(problems) - _MOST_TOLD} more."] * (len(problems) > _MOST_TOLD)
    raise type(problems[0])(
        f"{len(problems)} of {n_files} {what} cannot be used. {' '.join(told)}",
        remedy=" ".join(dict.fromkeys(problem.remedy for problem in problems)),
    ) from problems[0]
