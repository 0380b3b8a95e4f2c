"""What Slurm refuses, said with the names of our forms' fields."""

from __future__ import annotations

from cryosiam_plugin.slurm_core import SlurmError, Words, advice, refusal

#: Reason of a failure where nothing was submitted.
NOT_SUBMITTED = "not submitted"


def with_fields(error: SlurmError, words: Words) -> str:
    """Say what is wrong, what to do, and which fields of a form it is about.

    Parameters
    ----------
    error
        Of one of Slurm's programs, or of our own look at what is asked for.
    words
        Of the form.
    """
    return f"{error.message} {advice(error, words)}".strip()


def fields_of_refusal(text: str, words: Words) -> str:
    """Say which fields of a form a refusal is about, of which only the text was kept.

    Parameters
    ----------
    text
        Of an error's message and remedy.
    words
        Of the form.
    """
    # What follows is what to do about it, and names this and that.
    about = refusal("sbatch", text.split(". ")[0]).about
    return advice(SlurmError("", about=about), words).strip()
