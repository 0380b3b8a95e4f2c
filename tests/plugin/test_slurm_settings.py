"""What protocols ask Slurm for by their forms, and what of it cannot be right."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest
from cryosiam_plugin.slurm_core.script import ArrayJob, sbatch_script

from cryosiam_plugin.protocols.slurm_form import ON_SLURM, job_settings, slurm_problems
from cryosiam_plugin.slurm_core import SlurmError

IDS = ["TS_01", "TS_02", "TS_03"]


def form(**values):
    names = ["Partition", "Gpus", "Memory", "Time", "Account", "Qos", "Extra"]
    given = {f"slurm{name}": "" for name in names}
    given.update({"slurmCpus": 0, "slurmCap": 0, **values})
    return SimpleNamespace(
        **{name: SimpleNamespace(get=lambda v=value: v) for name, value in given.items()}
    )


@pytest.mark.parametrize(
    ("gpus", "use_gpu", "gres"),
    [
        ("1", True, "gpu:1"),
        ("a100:2", True, "gpu:a100:2"),
        (" gpu:a100:1 ", True, "gpu:a100:1"),
        ("1", False, ""),
        ("0", True, ""),
        ("", True, ""),
        (None, True, ""),
    ],
)
def test_gpus_are_asked_for_where_they_are_used(gpus, use_gpu, gres):
    assert job_settings(form(slurmGpus=gpus), use_gpu=use_gpu).gres == gres


def test_other_options_are_read_like_a_shell_s():
    settings = job_settings(form(slurmExtra="--constraint='a b' --exclude=n7"), use_gpu=True)
    assert settings.extra == ("--constraint=a b", "--exclude=n7")


@pytest.mark.parametrize(
    "wrong",
    [
        {"slurmMemory": "much"},
        {"slurmTime": "soon"},
        {"slurmPartition": "a b"},
        {"slurmExtra": "it's"},
        {"slurmExtra": "a100"},
    ],
)
def test_what_cannot_be_right_is_refused(wrong):
    with pytest.raises((SlurmError, ValueError)):
        job_settings(form(**wrong), use_gpu=True)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"slurmMemory": "much"}, "Memory of each task"),
        ({"slurmTime": "soon"}, "Time limit of each task"),
        ({"slurmPartition": "a b"}, "Partition"),
        ({"slurmAccount": "a b"}, "Account"),
        ({"slurmQos": "a b"}, "QOS"),
        ({"slurmGpus": "a b"}, "GPUs of each task"),
        ({"slurmExtra": "it's"}, "Other options"),
        ({"slurmExtra": "a100"}, "Other options"),
        ({"slurmExtra": "--array=0-3"}, "Other options"),
        ({"slurmExtra": "--mem=4G"}, "Other options"),
    ],
)
def test_a_problem_names_its_field(monkeypatch, tmp_path, wrong, field):
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = slurm_problems(form(**wrong))
    assert problem.startswith(f"*{field}*: ")


def test_quotes_in_other_options_reach_slurm(tmp_path):
    """A blank or a sign that shells know in a value, as '--constraint=a|b'."""
    extra = "--constraint='a100 & ssd' --comment=\"it's mine\""
    settings = job_settings(form(slurmExtra=extra), use_gpu=False)
    job = ArrayJob("j", tmp_path, tmp_path, 1, "engine")
    lines = sbatch_script(settings, job).splitlines()
    words = [
        word
        for line in lines
        if line.startswith("#SBATCH ")
        for word in shlex.split(line[len("#SBATCH ") :])
    ]
    assert "--constraint=a100 & ssd" in words
    assert "--comment=it's mine" in words


def test_an_array_needs_no_queue_of_scipion_s(domain):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    protocol = ProtCryosiamDenoise()
    for on_slurm, in_queue, warned in ((1, 1, True), (1, 0, False), (0, 1, False)):
        protocol.whereToRun.set(on_slurm)
        protocol._useQueue.set(bool(in_queue))
        assert ("Use a queue engine?" in "".join(protocol.warnings())) == warned


def test_without_sbatch_the_form_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = slurm_problems(form(slurmGpus="1"))
    assert "no sbatch" in problem
    assert "Start Scipion where jobs of Slurm can be submitted, or run here." in problem
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert slurm_problems(form(slurmGpus="1")) == []


def test_every_prediction_protocol_can_run_on_slurm(domain):
    from cryosiam_plugin.protocols import ProtCryosiamBase

    predictions = [
        protocol
        for protocol in domain.getProtocols().values()
        if issubclass(protocol, ProtCryosiamBase) and protocol is not ProtCryosiamBase
    ]
    assert len(predictions) >= 7
    for protocol in predictions:
        one, inserted = protocol(), []
        one.whereToRun.set(ON_SLURM)
        one._insertStep = lambda step, *rest, to=inserted: to.append(step.__name__) or len(to)
        steps = []
        for ts_ids in (IDS[:2], IDS[2:]):
            one._insertPredictions(ts_ids, 1, steps)
        assert inserted == ["predictOnSlurmStep"], protocol
        assert one._inbox.take() == (IDS, True), protocol
        assert one.summary() == ["No results yet."], protocol
