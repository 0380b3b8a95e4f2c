"""What a user reads about arrays: how far they are, why there is no result, what to do."""

from __future__ import annotations

import re

import pytest
from test_slurm import IDS, Cluster, stage_in

from cryosiam_plugin.protocols.array_report import array_lines, explained, task_log, write_progress
from cryosiam_plugin.protocols.slurm_form import FORM
from cryosiam_plugin.protocols.slurm_refusals import with_fields
from cryosiam_plugin.slurm_core import (
    Failure,
    Item,
    Journal,
    Progress,
    SlurmError,
    SlurmRun,
    refusal,
)


def test_an_engine_error_needs_no_words_of_slurm():
    assert explained(Failure(1, "engine error", "TS_01.mrc is damaged.")) == "TS_01.mrc is damaged."
    assert "'Time limit of each task'" in explained(Failure(1, "time limit", "Slurm says TIMEOUT."))


def test_every_field_that_a_remedy_names_is_in_the_form(domain):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    protocol = ProtCryosiamDenoise()
    sections = protocol.iterDefinitionSections()
    labels = {param.label.get() for section in sections for _, param in section.iterParams()}
    named = {value.strip("_'") for value in vars(FORM).values()} - {"Continue"}
    assert named <= labels


@pytest.fixture
def halfway(tmp_path, monkeypatch):
    """A run of nine tomograms: four done, one failed for good, one to be tried again."""
    monkeypatch.chdir(tmp_path)
    journal = Journal("j", "predict", [], "engine", str(tmp_path), str(tmp_path))
    items = [Item(f"TS_{number}", f"TS_{number}.mrc") for number in range(9)]
    run = SlurmRun.create(tmp_path / "slurm" / "predict" / "run_001", journal, items, Cluster())
    run.journal.submissions[0].job_id = "123"
    run.journal.failures = {
        "TS_3": Failure(3, "time limit", "Slurm says TIMEOUT.", array=1, earlier=["killed"] * 2),
        "TS_5": Failure(1, "out of memory", "", array=1, is_final=False, is_waiting=True),
    }
    run.save()
    (run.array_folder(run.journal.submissions[0]) / "logs" / "3.log").write_text("Loading")
    return run


def progress(**values):
    counts = {"n_tomograms": 9, "n_running": 1, "n_done": 4, "n_failed": 1, "n_tasks_running": 1}
    return Progress(**{**counts, "seconds_each": 30.5, **values})


def test_the_summary_says_how_far_the_arrays_are(halfway, tmp_path):
    write_progress(halfway.folder, progress(why_waiting="Resources"))
    first, again, times, logs = array_lines(tmp_path / "slurm", ["predict"], is_followed=True)
    assert first == (
        "*Slurm array 123* (predict): 4 of 9 done, 1 running, 3 waiting, 1 failed (1 time limit)."
    )
    assert again == (
        "Tried again: 2 killed, with smaller tiles, 1 out of memory, with smaller tiles."
    )
    assert re.match(
        r"30\.5 s per tomogram; about 2:02 left; waiting for: Resources; seen 2\d{3}-", times
    )
    assert logs == "Logs: slurm/predict/run_001"


def test_the_summary_of_a_run_that_nobody_follows_or_that_is_over(halfway, tmp_path):
    write_progress(halfway.folder, progress(problem="slurm_load_jobs error"))
    lines = array_lines(tmp_path / "slurm", ["predict"], is_followed=False)
    assert "the queue does not answer" in lines[2]
    assert "_Continue_" in lines[3]
    write_progress(halfway.folder, progress(n_done=8, n_running=0, is_over=True))
    lines = array_lines(tmp_path / "slurm", ["predict"], is_followed=False)
    assert "8 of 9 done, 1 failed" in lines[0]
    assert lines[2] == "30.5 s per tomogram."


class Refusing(Cluster):
    def submit(self, script, options=()):
        raise refusal("sbatch", "sbatch: error: Invalid qos specification")


def test_a_refusal_names_the_form_s_field(tmp_path):
    """In the summary, of each tomogram, and where the protocol ends with it."""
    stage = stage_in(tmp_path, Refusing())
    with pytest.raises(SlurmError) as raised:
        stage.add(IDS)
        stage.poll()
    stage.release()
    assert with_fields(raised.value, FORM).endswith("See 'QOS'.")
    (folder,) = (tmp_path / "slurm").glob("run_*")
    failure = Journal.read(folder).failures["TS_01"]
    assert explained(failure).endswith("See 'QOS'.")
    folder.rename(tmp_path / "run_001")
    (tmp_path / "slurm" / "predict").mkdir()
    (tmp_path / "run_001").rename(tmp_path / "slurm" / "predict" / "run_001")
    first, why, *_ = array_lines(tmp_path / "slurm", ["predict"], is_followed=False)
    assert first == (
        "*Slurm array not submitted* (predict): 0 of 3 done, 3 failed (3 not submitted)."
    )
    assert "Invalid qos specification" in why
    assert why.endswith("See 'QOS'.")


def test_the_summary_says_that_slurm_takes_no_more(halfway, tmp_path):
    write_progress(halfway.folder, progress(refusal="AssocMaxSubmitJobLimit"))
    lines = array_lines(tmp_path / "slurm", ["predict"], is_followed=True)
    assert "takes no further jobs now: AssocMaxSubmitJobLimit" in lines[2]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seen": 1, "new": 2}'])
def test_a_summary_without_its_files_says_less(halfway, tmp_path, damage):
    assert array_lines(tmp_path / "slurm", ["predict"], is_followed=True) == []
    (halfway.folder / "progress.json").write_text(damage)
    assert array_lines(tmp_path / "slurm", ["predict"], is_followed=True) == []


def test_a_failure_names_its_log(halfway):
    failure = halfway.journal.failures["TS_3"]
    log = task_log(halfway, "TS_3", failure)
    said = explained(failure, log)
    assert said.endswith("Log: slurm/predict/run_001/array_001/logs/3.log")
    assert "Tried 3 times" in said
    assert task_log(halfway, "TS_99", failure) is None


def test_every_look_is_noted(tmp_path):
    stage = stage_in(tmp_path, Cluster())
    stage.add(IDS)
    stage.poll()
    stage.release()
    (folder,) = (tmp_path / "slurm").glob("run_*")
    assert '"n_tomograms": 3' in (folder / "progress.json").read_text()
