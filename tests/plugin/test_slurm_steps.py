"""Steps as jobs of a queue that three scripts play: submitted, waited for, taken up again."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyworkflow.protocol import HostConfig

import cryosiam_plugin
from cryosiam_plugin.engine_status import status_folder
from cryosiam_plugin.launcher import EngineCommand
from cryosiam_plugin.protocols import queue_runs, queue_waiting
from cryosiam_plugin.protocols.job_records import CANCELLED, ENDED, JobRecord, live_jobs
from cryosiam_plugin.protocols.queue_commands import QueueCommands, name_in, within
from cryosiam_plugin.protocols.queue_jobs import QUESTIONS, exit_code_of
from cryosiam_plugin.protocols.queue_runs import QueueRuns
from cryosiam_plugin.protocols.slurm_refusals import fields_of_refusal, with_fields
from cryosiam_plugin.slurm_core import SlurmError, refusal

HOSTS = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"
COMMAND = "denoise_predict"
MUNGE = "sbatch: error: Batch job submission failed: Munge decode failed: Invalid credential"
#: Each says first what a file of its name with an `s` holds, if there is one; and refuses then.
SBATCH = """\
echo "$*" >>submissions
[ ! -s sbatchs ] || { cat sbatchs >&2; exit 1; }
n=$(($(cat last 2>/dev/null) + 1)); echo $n >last
for script; do :; done
name=$(sed -n 's/^#SBATCH --job-name=//p' "$script")
echo "$name|$n|N/A|RUNNING|n1|None" >job$n
[ ! -e slow ] || { rm slow; echo 'sbatch: error: Socket timed out' >&2; exit 1; }
echo $n
sh -c ". ./engine" engine $n "$script" >/dev/null 2>&1 &
"""
SQUEUE = """\
echo "$*" >>questions
[ ! -s squeues ] || { cat squeues >&2; exit 1; }
case "$*" in
*--states=all*--jobs=1*) cat end1 2>/dev/null ;;
*--name=*) cat job* 2>/dev/null || true ;;
*) for n in $(echo "$*" | sed -n 's/.*--jobs=\\([0-9]*\\).*/\\1/p'); do
    [ -e job$n ] && echo RUNNING || echo 'slurm_load_jobs error: Invalid job id specified' >&2
   done ;;
esac
"""
SCANCEL = """\
[ ! -s scancels ] || { cat scancels >&2; exit 1; }
for n; do rm -f job$n; done
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The folder of a queue: `engine` is what its jobs do, `job7` is there while job 7 is."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        (folder / name).write_text(f"#!/bin/sh\ncd {folder}\n{text}")
        (folder / name).chmod(0o755)
    (folder / "engine").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name, seconds in {"SUBMIT_AGAIN": 0.05, "LOG_SECONDS": 0.02, "SECOND_LOOK": 0.05}.items():
        monkeypatch.setattr(queue_waiting, name, seconds)
    monkeypatch.setattr(queue_waiting, "poll_interval", lambda seconds: 0.1)
    return folder


@pytest.fixture
def queue(cluster):
    return QueueCommands(host())


def host():
    return HostConfig.load(str(HOSTS))["localhost"]


def submissions(cluster):
    return (cluster / "submissions").read_text().splitlines()


def job_in(folder, **values):
    """A job's record, and what its templates are filled in with."""
    folder.mkdir(exist_ok=True)
    record = JobRecord(
        folder / "engine_1", COMMAND, {"TS_01": "a"}, logs=str(folder / "7"), **values
    )
    default = host().getQueuesDefault()
    files = {"JOB_LOGS": record.logs, "JOB_SCRIPT": f"{folder}/7.job"}
    return record, {**default, **files, "JOB_NAME": "7-x", "GPU_COUNT": 0, "JOB_COMMAND": "true"}


def later(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.start()


# ------------------------------- submission -----------------------------------------------------


def test_a_job_is_submitted_once_munge_is_back(tmp_path, cluster, queue):
    (cluster / "sbatchs").write_text(MUNGE)
    later(0.4, (cluster / "sbatchs").unlink)
    record, values = job_in(tmp_path / "run")
    queue_waiting.submit(queue, record, values)
    assert record.job_id == "1"
    assert len(submissions(cluster)) > 2
    (known,) = live_jobs(tmp_path / "run")
    assert known == record
    assert known.name == "scipion-7-x"


def test_a_job_that_was_taken_without_an_answer_is_not_submitted_again(tmp_path, cluster, queue):
    (cluster / "slow").touch()
    record, values = job_in(tmp_path / "run")
    queue_waiting.submit(queue, record, values)
    assert record.job_id == "1"
    assert len(submissions(cluster)) == 1


def test_nothing_is_submitted_again_while_nobody_knows(tmp_path, cluster, queue):
    """The controller took the job, gave no answer, and is away."""
    (cluster / "slow").touch()
    (cluster / "squeues").write_text("slurm_load_jobs error: Unable to contact slurm controller")
    later(0.4, (cluster / "squeues").unlink)
    record, values = job_in(tmp_path / "run")
    queue_waiting.submit(queue, record, values)
    assert len(submissions(cluster)) == 1
    assert len((cluster / "questions").read_text().splitlines()) > 1


@pytest.mark.parametrize("said", [MUNGE, "sbatch: error: invalid partition specified: gup"])
def test_what_is_not_taken_in_the_end_is_said(tmp_path, cluster, queue, monkeypatch, said):
    monkeypatch.setattr(queue_waiting, "SUBMIT_PATIENCE", 0.2)
    (cluster / "sbatchs").write_text(said)
    record, values = job_in(tmp_path / "run")
    with pytest.raises(SlurmError) as raised:
        queue_waiting.submit(queue, record, values)
    assert said.split(": ")[-1] in str(raised.value)
    assert (len(submissions(cluster)) == 1) == ("partition" in said)
    assert live_jobs(tmp_path / "run") == []


def test_names_of_jobs():
    assert name_in("#!/bin/sh\n#SBATCH --job-name=a-1\n") == "a-1"
    assert name_in("#SBATCH -J b\n") == "b"
    assert name_in("#PBS -N c\n") == ""


# ------------------------------- waiting --------------------------------------------------------


def waits(queue, record):
    """The wait for a job's end, in a thread."""
    thread = threading.Thread(target=queue_waiting.await_end, args=(queue, record), daemon=True)
    thread.start()
    return thread


def says(record, *lines):
    with Path(f"{record.logs}.err").open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


def test_the_log_says_that_a_job_has_ended(tmp_path, cluster, queue, monkeypatch):
    """So that nobody need ask the queue."""
    monkeypatch.setattr(queue_waiting, "poll_interval", lambda seconds: 600)
    record, _ = job_in(tmp_path / "run", job_id="1")
    (cluster / "job1").touch()
    says(record, "Job 1 on n1")
    thread = waits(queue, record)
    thread.join(0.3)
    assert thread.is_alive()
    says(record, "Job 1 ended with exit code 1")
    thread.join(5)
    assert not thread.is_alive()
    assert not (cluster / "questions").exists()


def test_a_job_that_is_queued_again_has_not_ended(tmp_path, cluster, queue):
    """Its engine was asked to stop, and said so; then the node was taken away."""
    record, _ = job_in(tmp_path / "run", job_id="1")
    (cluster / "job1").touch()
    says(record, "Job 1 on n1", "Job 1 ended with exit code 143")
    thread = waits(queue, record)
    thread.join(0.5)
    assert thread.is_alive()
    says(record, "Job 1 on n2")
    assert exit_code_of(Path(record.logs)) is None
    says(record, "Job 1 ended with exit code 0")
    thread.join(5)
    assert not thread.is_alive()


def test_a_queue_that_is_silent_for_once_ends_nothing(tmp_path, cluster, queue, monkeypatch):
    record, _ = job_in(tmp_path / "run", job_id="1")
    answers = iter([True, False, True, False, False])
    monkeypatch.setattr(queue, "is_there", lambda job_id: next(answers))
    queue_waiting.await_end(queue, record)
    assert list(answers) == []


def test_many_jobs_ask_no_more_than_one(tmp_path, cluster, queue, monkeypatch):
    """Each second one question, however many jobs are waited for."""
    asked = []
    record, _ = job_in(tmp_path / "run", job_id="1")
    monkeypatch.setattr(queue, "is_there", lambda job_id: asked.append(time.monotonic()))
    began = time.monotonic()
    queue_waiting.await_end(queue, record, n_jobs=1)
    assert asked[0] - began >= 1


# ------------------------------- jobs of an earlier life -----------------------------------------


class Deleted(Exception):
    """The files are removed."""


class ScipionProtocol:
    def cleanWorkingDir(self):
        raise Deleted


class Protocol(QueueRuns, ScipionProtocol):
    """As far as a protocol needs be one."""

    def __init__(self, folder):
        self.folder = folder
        self._lock = threading.RLock()
        self._jobId = []
        self.config = "threshold: 1"
        self.said = []
        (folder / "extra" / "engine").mkdir(parents=True, exist_ok=True)

    def getHostConfig(self):
        return host()

    def getSubmitDict(self):
        logs = str(self.folder / "logs" / "7")
        job = {"JOB_NAME": "7", "JOB_SCRIPT": f"{logs}.job", "JOB_LOGS": logs, "JOB_QUEUE": "gpu"}
        return {**job, "GPU_COUNT": 1}

    def _getExtraPath(self, name):
        return str(self.folder / "extra" / name)

    def _getPath(self):
        return str(self.folder)

    def _predictionFolder(self):
        return str(self.folder / "predictions")

    def _configFile(self):
        (self.folder / "run.yaml").write_text(self.config)
        return self.folder / "run.yaml"

    def _readFiles(self, tsIds):
        return [self.folder / f"{tsId}.mrc" for tsId in tsIds]

    def _engineOptions(self, command):
        return ["--config_file", str(self._configFile())]

    def getJobIds(self):
        return self._jobId

    def appendJobId(self, job_id):
        self._jobId.append(job_id)

    def removeJobId(self, job_id):
        self._jobId.remove(job_id)

    def _store(self, *what):
        pass

    def info(self, text):
        self.said.append(text)

    def start(self, tsIds, *, useGpu=False):
        argv = [COMMAND, *self._engineOptions(COMMAND)]
        argv += [word for tsId in tsIds for word in ("--filename", f"{tsId}.mrc")]
        record = (
            self._recordsFolder() / f"engine_{len(list(self._recordsFolder().glob('*.sh'))) + 1}"
        )
        return self._startInQueue(argv, tsIds, EngineCommand("true", ""), record, useGpu=useGpu)


@pytest.fixture
def protocol(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(queue_runs, "STATUS_SECONDS", 0.3)
    return Protocol(tmp_path / "run")


def engine(cluster, folder, text):
    """What every job does; `$1` is its id, `$log` its log and `$status` the status folder."""
    statuses = status_folder(folder / "predictions", COMMAND)
    statuses.mkdir(parents=True, exist_ok=True)
    (cluster / "engine").write_text(
        f'log=$(sed -n "s/^#SBATCH --error=//p" "$2")\nstatus={statuses}\n'
        f'echo "Job $1 on n1" >>$log\n{text}\n'
    )


ENDS = 'echo "Job $1 ended with exit code 0" >>$log; rm -f job$1'
DONE = '{"command": "denoise_predict", "tomogram": "%s", "state": "done", "outputs": []}'


def done(*tsIds):
    return "\n".join(f"echo '{DONE % tsId}' >$status/{tsId}.json" for tsId in tsIds)


def test_a_step_s_job_has_the_gpus_that_it_uses(cluster, protocol):
    engine(cluster, protocol.folder, done("TS_01") + "\n" + ENDS)
    end = protocol.start(["TS_01"], useGpu=True)
    assert (end.exit_code, end.job_end) == (0, "")
    protocol.start(["TS_01"])
    with_gpu, without = submissions(cluster)
    assert "--gres=gpu:1" in with_gpu
    assert "--partition=gpu" in with_gpu
    assert "--gres" not in without
    assert protocol.getJobIds() == []
    assert len(list((protocol.folder / "logs").glob("*.job"))) == 2


def test_a_refusal_is_the_end_of_one_process_and_names_the_field(cluster, protocol):
    (cluster / "sbatchs").write_text("sbatch: error: invalid partition specified: gup")
    end = protocol.start(["TS_01"])
    assert "invalid partition specified: gup" in end.reason
    assert end.reason.endswith("See 'Submit to queue'.")
    assert not end.was_asked_to_stop


@pytest.mark.parametrize(
    ("says", "state", "reasons"),
    [
        ("", "TIMEOUT", ["(time limit)", "Job 1 on n1", "'Time limit of each job'"]),
        ("", "NODE_FAIL", ["(node failure)", "--exclude=NODE, by 'Options of sbatch'"]),
        ("", "OUT_OF_MEMORY", ["(out of memory)", "'Memory of each job'"]),
        ("Job 1 ended with exit code 143", "PREEMPTED", ["(preempted)", "'QOS'"]),
        ("Job 1 ended with exit code 143", "", ["exit code 143"]),
        ("Job 1 ended with exit code 137", "", ["it was killed, most often because memory"]),
    ],
)
def test_a_job_s_end_is_explained_and_stops_no_other(cluster, protocol, says, state, reasons):
    engine(cluster, protocol.folder, f"echo '{says}' >>$log; echo {state} >end1; rm job1")
    end = protocol.start(["TS_01"])
    assert not end.was_asked_to_stop
    assert all(reason in end.reason for reason in reasons), end.reason


@pytest.mark.parametrize(
    ("state", "reason"),
    [("CANCELLED", "(cancelled); it had not begun. Somebody"), ("", "has left the queue")],
)
def test_a_job_that_never_began_is_explained(cluster, protocol, state, reason):
    (cluster / "engine").write_text(f"echo {state} >end1; rm job1")
    assert reason in protocol.start(["TS_01"]).reason


class Killed(Exception):
    """The protocol's process is gone."""


def forgotten(protocol, cluster, tsIds, text):
    """A job whose protocol was killed while it waited; it does what `text` says."""
    engine(cluster, protocol.folder, text)

    def killed(queue, job):
        raise Killed

    protocol._awaitJob = killed
    with pytest.raises(Killed):
        protocol.start(tsIds)
    return Protocol(protocol.folder)


WAITS = "while [ ! -e go ]; do sleep 0.1; done"


def test_continue_waits_for_the_jobs_that_it_finds(cluster, protocol):
    again = forgotten(
        protocol, cluster, ["TS_01", "TS_02"], f"{WAITS}\n{done('TS_01', 'TS_02')}\n{ENDS}"
    )
    later(0.5, (cluster / "go").touch)
    left, end = again._afterEarlierJobs(COMMAND, ["TS_01", "TS_03"])
    assert left == ["TS_03"]
    assert end is not None
    assert not end.was_asked_to_stop
    assert "job 1 of an earlier run goes on with TS_01, TS_02" in again.said[0]
    assert len(submissions(cluster)) == 1
    assert live_jobs(again._recordsFolder()) == []


def test_a_job_about_all_tomograms_is_found_too(cluster, protocol):
    """Such as a training."""
    again = forgotten(protocol, cluster, [], f"{WAITS}\n{ENDS}")
    later(0.5, (cluster / "go").touch)
    left, end = again._afterEarlierJobs(COMMAND, [])
    assert left == []
    assert end.exit_code == 0


def test_what_an_earlier_job_leaves_is_computed_by_another(cluster, protocol):
    again = forgotten(protocol, cluster, ["TS_01", "TS_02"], f"{WAITS}\n{done('TS_02')}\nrm job$1")
    later(0.5, (cluster / "go").touch)
    left, _ = again._afterEarlierJobs(COMMAND, ["TS_01", "TS_02"])
    assert left == ["TS_01"]


@pytest.mark.parametrize("what", ["parameters", "input", "stopped"])
def test_jobs_that_are_of_no_use_are_ended_first(cluster, protocol, what):
    again = forgotten(protocol, cluster, ["TS_01"], WAITS)
    if what == "parameters":
        again.config = "threshold: 2"
    elif what == "input":
        (again.folder / "TS_01.mrc").write_text("another tomogram")
    else:
        (live,) = live_jobs(again._recordsFolder())
        live.note(CANCELLED)
    left, end = again._afterEarlierJobs(COMMAND, ["TS_01"])
    assert (left, end) == (["TS_01"], None)
    assert not (cluster / "job1").exists()
    (cluster / "go").touch()


def test_jobs_of_other_tomograms_and_commands_are_left_alone(cluster, protocol):
    again = forgotten(protocol, cluster, ["TS_01"], WAITS)
    assert again._afterEarlierJobs(COMMAND, ["TS_02"]) == (["TS_02"], None)
    assert again._afterEarlierJobs("lamella", ["TS_01"]) == (["TS_01"], None)
    assert (cluster / "job1").exists()
    (cluster / "go").touch()


def test_a_job_whose_id_was_lost_is_found_by_its_name(cluster, protocol):
    """Scipion was killed between the submission and the answer."""
    again = forgotten(protocol, cluster, ["TS_01"], f"{WAITS}\n{done('TS_01')}\n{ENDS}")
    (live,) = live_jobs(again._recordsFolder())
    live.job_id = ""
    live.note("submitting")
    later(0.5, (cluster / "go").touch)
    assert again._afterEarlierJobs(COMMAND, ["TS_01"])[0] == []
    assert len(submissions(cluster)) == 1


# ------------------------------- jobs that nobody wants ------------------------------------------


@pytest.fixture
def unwanted(cluster, protocol, monkeypatch):
    """A protocol with a job, whose base class says when it would remove the files."""
    from cryosiam_plugin.protocols import unwanted_jobs

    monkeypatch.setattr(unwanted_jobs, "BUTTON_SECONDS", 1)
    again = forgotten(protocol, cluster, ["TS_01"], WAITS)
    again.isActive = lambda: False
    again.mapper = SimpleNamespace(db=SimpleNamespace(connection=SimpleNamespace()))
    again.mapper.db.connection.rollback = lambda: again.said.append("rolled back")
    yield again
    (cluster / "go").touch()


def test_files_are_removed_once_the_jobs_have_ended(cluster, unwanted):
    with pytest.raises(Deleted):
        unwanted.cleanWorkingDir()
    assert not (cluster / "job1").exists()
    assert live_jobs(unwanted._recordsFolder()) == []


@pytest.mark.parametrize("said", ["", "scancel: error: Unable to contact slurm controller"])
def test_no_file_is_removed_under_a_job(cluster, unwanted, said):
    """Of which the queue says nothing, or which does not end."""
    (cluster / "scancels").write_text(said or " ")
    if not said:
        (cluster / "scancel").write_text("#!/bin/sh\n")
    began = time.monotonic()
    with pytest.raises(SlurmError, match="Nothing was deleted"):
        unwanted.cleanWorkingDir()
    assert time.monotonic() - began < 60
    assert (cluster / "job1").exists()
    assert "rolled back" in unwanted.said


def test_a_queue_that_hangs_keeps_nobody_waiting(cluster):
    assert not within(0.1, lambda: time.sleep(3))
    assert within(5, lambda: None)
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


# ------------------------------- refusals --------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("invalid partition specified: x", "'Submit to queue'"),
        ("Invalid account or account/partition combination", "'Account', 'Submit to queue'"),
        ("Invalid qos specification", "'QOS'"),
        (
            "Requested time limit is invalid (missing or exceeds some limit)",
            "'Time limit of each job'",
        ),
        ("Memory specification can not be satisfied", "'Memory of each job'"),
        (
            "Requested node configuration is not available",
            "'CPUs of each job', 'Memory of each job', 'GPU type'",
        ),
        ("Invalid feature specification", "'Options of sbatch'"),
    ],
)
def test_a_refusal_names_the_form_s_fields(said, fields):
    error = refusal("The queue", f"sbatch: error: {said}")
    told = with_fields(error, QUESTIONS)
    assert said in told
    assert told.endswith(f"See {fields}.")
    assert fields_of_refusal(str(error), QUESTIONS) == f"See {fields}."


def test_a_refusal_that_nobody_knows_blames_no_field():
    error = refusal("The queue", "Slurm is in a bad mood")
    assert with_fields(error, QUESTIONS) == "The queue refused: Slurm is in a bad mood."


def test_records_that_cannot_be_read_are_nobody_s_jobs(tmp_path):
    record, _ = job_in(tmp_path, job_id="5")
    record.note("queued")
    assert [job.job_id for job in live_jobs(tmp_path)] == ["5"]
    for damage in ("", "{", "[]", '{"new": 1}'):
        (tmp_path / "engine_1.job").write_text(damage)
        assert live_jobs(tmp_path) == []
    record.note(ENDED)
    assert live_jobs(tmp_path) == []
