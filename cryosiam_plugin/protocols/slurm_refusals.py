"""What Slurm refuses, and what our forms call that which it is about."""

from __future__ import annotations

from typing import Iterable, Mapping

from cryosiam_plugin.slurm_core import SlurmError, refusal

#: Reason of a failure where nothing was submitted.
NOT_SUBMITTED = "not submitted"


def with_fields(error: SlurmError, labels: Mapping[str, str]) -> str:
    """Say what is wrong, and which fields of a form it is about.

    Parameters
    ----------
    error
        Of one of Slurm's programs, or of our own look at what is asked for.
    labels
        What the form calls ``partition``, ``account``, ``qos``, ``time``, ``memory``, ``gpus``,
        ``cpus``, ``per_task`` and the other ``options``. Those that it has not may be absent.

    Examples
    --------
    >>> with_fields(SlurmError("No such QOS.", about=("qos",)), {"qos": "QOS"})
    "No such QOS. In the form: 'QOS'."
    """
    return " ".join(part for part in (str(error), _named(error.about, labels)) if part)


def fields_of_refusal(text: str, labels: Mapping[str, str]) -> str:
    """Say which fields of a form a refusal is about, of which only the text was kept."""
    # What follows is what to do about it, and names this and that.
    return _named(refusal("sbatch", text.split(". ")[0]).about, labels)


def _named(about: Iterable[str], labels: Mapping[str, str]) -> str:
    named = [f"'{labels[key]}'" for key in about if key in labels]
    return f"In the form: {', '.join(named)}." if named else ""
