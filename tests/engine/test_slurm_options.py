"""Other options of sbatch: which of them may be given, and how they come into a script."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cryosiam_engine.cli import main
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.script import ArrayJob, sbatch_script
from cryosiam_engine.slurm.settings import JobSettings


def lines(*extra: str, avoid: tuple[str, ...] = ()) -> list[str]:
    """What stands in the script of the user's own options."""
    settings = JobSettings(extra=extra)
    settings.check()
    job = ArrayJob("n", Path("/run/array_001"), Path("/home"), 1, "engine", avoid=avoid)
    text = sbatch_script(settings, job).split("/logs/%a.log\n")[1].split("\n\n")[0]
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line]


OWNED = (
    "--job-name=x -Jx --job-nam=x --array=1-3 -a1 --output=o -o --error=e -e --input=i --wrap=true "
    "--clusters=b -M --signal=USR1 --dependency=singleton -dx --depend=x --wait -W --requeue "
    "--open-mode=truncate --no-requeue --parsable --test-only --help --version -V"
)


@pytest.mark.parametrize("option", OWNED.split())
def test_what_a_run_depends_on_cannot_be_given(option: str) -> None:
    with pytest.raises(SlurmError, match="followed by it") as raised:
        JobSettings(extra=(option,)).check()
    assert option in raised.value.message
    assert raised.value.about == ("options",)


@pytest.mark.parametrize(
    ("option", "about"), [("--mem=4G", "memory"), ("--time=60", "time"), ("-t 60", "time")]
)
def test_what_has_its_own_place_is_sent_there(option: str, about: str) -> None:
    with pytest.raises(SlurmError, match="tried again") as raised:
        JobSettings(extra=(option,)).check()
    assert raised.value.about == (about,)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("--constraint=a b", "--constraint='a b'"),
        ("--constraint='a b'", "--constraint='a b'"),
        ('--constraint="a b"', "--constraint='a b'"),
        ("--constraint 'a b'", "--constraint='a b'"),
        ("-C 'a b'", "-C 'a b'"),
        ("-Ca", "-C a"),
        ("--constraint=[a|b]&c", "--constraint='[a|b]&c'"),
        ("--comment=it's", "--comment='it'\"'\"'s'"),
        ("--nodelist n1", "--nodelist=n1"),
        ("--exclusive", "--exclusive"),
        ("--mem-per-cpu=2G", "--mem-per-cpu=2G"),
        ("--export=ALL,A=1", "--export=ALL,A=1"),
        ("--time-min=60", "--time-min=60"),
    ],
)
def test_values_survive(given: str, written: str) -> None:
    assert lines(given) == [written]
    assert len(shlex.split(lines(given)[0])) <= 2


def test_a_line_as_a_form_divides_it() -> None:
    words = shlex.split("--constraint='a b' -x n1 --exclusive --comment \"c d\"")
    assert lines(*words) == ["--constraint='a b'", "--exclusive", "--comment='c d'", "--exclude=n1"]


def test_nodes_to_leave_out_are_added_to_the_users_own() -> None:
    """Else the later option would win."""
    assert lines("--exclude=n1,n2", "-x n3", avoid=("n4",)) == ["--exclude=n4,n1,n2,n3"]
    assert lines(avoid=("n4",)) == ["--exclude=n4"]


@pytest.mark.parametrize(
    "wrong", ["rm -rf /", "n1", "--comment=a\nrm", "--exclude=n1 --wrap=rm", "-"]
)
def test_what_is_no_option(wrong: str) -> None:
    with pytest.raises(SlurmError):
        JobSettings(extra=(wrong,)).check()


def test_the_command_line_says_which_option_it_is_about(
    write_config: object, capfd: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config("denoising"))  # type: ignore[operator]
    words = ["slurm", "denoise_predict", "--config_file", config, "--detach"]
    assert main([*words, "--sbatch-option=--array=0-3"]) == 2
    assert "See --sbatch-option." in capfd.readouterr().err
    assert main([*words, "--sbatch-option=--mem=3G"]) == 2
    assert "See --mem." in capfd.readouterr().err
    assert main([*words, "--time", "soon"]) == 2
    assert "See --time." in capfd.readouterr().err
