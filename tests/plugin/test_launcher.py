from __future__ import annotations

import csv
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryosiam_plugin.slurm_core.binds import BindError, bind_options, bind_paths
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyworkflow.utils import Environ
from pyworkflow.utils.process import buildRunCommand

import cryosiam_plugin
from cryosiam_plugin import container_checks, launcher
from cryosiam_plugin.launcher import (
    HIDDEN,
    LaunchError,
    LaunchSettings,
    Runtime,
    choose_runtime,
    engine_command,
    engine_environment,
    find_apptainer,
)

# Prints its arguments, each ended by a zero byte, and what it sees of the environment.
SPY = '#!/bin/sh\nprintf "%s\\0" "$@"\n'

NASTY = [
    "with space",
    "it's",
    'say "no"',
    "a;touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "$HOME",
    "100%",
    "%(GPU",
    "%s%d",
    "ä Å µ 試料",
    "back\\slash",
    "new\nline",
    "*",
    "~",
    "a&b|c>d<e",
    "#hash",
    "!bang",
    "-leading",
    "{a,b}",
    "tab\there",
    "a:b,c",
    "a^b",
    "trailing ",
    " leading",
    "trailing tab\t",
    "back\\",
    "ro",
]
# Everything that can be a file's name.
NAMES = st.text(
    st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment and a working folder that do not depend on who runs the tests."""
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(project)
    own = (*launcher.CACHE_VARIABLES, "CUDA_VISIBLE_DEVICES", "CRYOSIAM_MODELS")
    for name in (*HIDDEN, *own, *container_checks.CONTAINER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launcher, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(container_checks, "CONTAINER_FOLDER", tmp_path / "no container")
    container_checks.start_failure.cache_clear()
    container_checks._labelled_version.cache_clear()


def spy(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPY)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def native(folder: Path) -> LaunchSettings:
    spy(folder / "cryosiam-engine")
    return LaunchSettings("native", str(spy(folder / "python")), models=str(folder / "models"))


def container(folder: Path, **changes: object) -> LaunchSettings:
    program = spy(folder / "apptainer")
    image = folder / "engine.sif"
    image.touch()
    values = {"runtime": "apptainer", "apptainer": str(program), "sif": str(image), **changes}
    return LaunchSettings(**values)


def heard(line: str, environment: dict[str, str] | None = None) -> list[str]:
    """What a program that /bin/sh starts with this line is given."""
    environment = dict(os.environ) if environment is None else environment
    out = subprocess.run(
        ["/bin/sh", "-c", line], env=environment, stdout=subprocess.PIPE, check=True
    ).stdout
    return [os.fsdecode(word) for word in out.split(b"\0")[:-1]]


def run_in(settings: LaunchSettings, tmp_path: Path, **options: object) -> str:
    options.setdefault("work_folder", tmp_path / "project" / "Runs" / "1")
    argv = ["semantic_predict", "--config_file", "Runs/1/run.yaml", "--filename", "TS_01.mrc"]
    return engine_command(settings, argv, **options).shell_line


def expected(text: str, tmp_path: Path) -> str:
    filled = text.replace("{tmp}", str(tmp_path)).replace("{empty}", sha256().hexdigest())
    return " ".join(textwrap.dedent(filled).split())


# ------------------------------------------------------------------ the commands, word by word


def test_native_command(tmp_path: Path) -> None:
    assert run_in(native(tmp_path / "env/bin"), tmp_path, gpu_ids="0") == expected(
        """
        env -u PYTHONPATH -u PYTHONHOME -u LD_LIBRARY_PATH -u LD_PRELOAD -u CONDA_PREFIX
        -u MPLBACKEND
        CRYOSIAM_MODELS={tmp}/env/bin/models CUDA_VISIBLE_DEVICES=0
        {tmp}/env/bin/python -I -m cryosiam_engine.cli
        semantic_predict --config_file Runs/1/run.yaml --filename TS_01.mrc
        """,
        tmp_path,
    )


def test_container_command(tmp_path: Path) -> None:
    models, data, run = tmp_path / "models", tmp_path / "data", tmp_path / "scratch" / "run"
    for folder in (models, data, run):
        folder.mkdir(parents=True)
    (data / "TS_01.mrc").touch()
    (run / "TS_01.mrc").symlink_to(data / "TS_01.mrc")
    settings = container(tmp_path, models=str(models), extra_binds=("/opt/x:/opt/y:ro",))
    line = run_in(settings, tmp_path, work_folder=run, inputs=[run / "TS_01.mrc"], gpu_ids="0,1")
    assert line == expected(
        """
        env -u PYTHONPATH -u PYTHONHOME -u LD_LIBRARY_PATH -u LD_PRELOAD -u CONDA_PREFIX
        -u MPLBACKEND -u TMPDIR -u TMP -u TEMP
        CRYOSIAM_MODELS={tmp}/models CUDA_VISIBLE_DEVICES=0,1 PYTHONNOUSERSITE=1
        CRYOSIAM_IMAGE={tmp}/engine.sif CRYOSIAM_IMAGE_SHA256={empty}
        {tmp}/apptainer exec --nv
        --bind {tmp}/data --bind {tmp}/models --bind {tmp}/project --bind {tmp}/scratch/run
        --bind /opt/x:/opt/y:ro --pwd {tmp}/project
        {tmp}/engine.sif cryosiam-engine
        semantic_predict --config_file Runs/1/run.yaml --filename TS_01.mrc
        """,
        tmp_path,
    )


def test_gpu_support_only_with_a_gpu(tmp_path: Path) -> None:
    assert "--nv" in shlex.split(run_in(container(tmp_path), tmp_path))
    line = run_in(container(tmp_path), tmp_path, use_gpu=False)
    assert "--nv" not in shlex.split(line)
    assert "CUDA_VISIBLE_DEVICES=" in shlex.split(line)


def test_gpu_support_only_where_the_gpu_is(tmp_path: Path, monkeypatch) -> None:
    """A queue's job runs on another computer, which nothing is known about."""
    monkeypatch.setattr(launcher, "has_nvidia_gpu", lambda: False)
    assert "--nv" not in shlex.split(run_in(container(tmp_path), tmp_path))
    queued = run_in(container(tmp_path), tmp_path, scheduler_owns_gpu=True)
    assert "--nv" in shlex.split(queued)


def test_a_gpu_is_seen_by_its_device(tmp_path: Path) -> None:
    assert not container_checks.has_nvidia_gpu(tmp_path)
    (tmp_path / "nvidia-caps").touch()
    assert not container_checks.has_nvidia_gpu(tmp_path)
    (tmp_path / "nvidia3").touch()
    assert container_checks.has_nvidia_gpu(tmp_path)


@pytest.mark.parametrize("make", [native, container])
@pytest.mark.parametrize("use_gpu", [True, False])
def test_the_schedulers_gpus_are_left_alone(make, use_gpu, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    command = engine_command(
        make(tmp_path / "bin"),
        ["doctor"],
        work_folder=tmp_path,
        use_gpu=use_gpu,
        gpu_ids="0",
        scheduler_owns_gpu=True,
    )
    assert "CUDA_VISIBLE_DEVICES" not in command.shell_line
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize(
    ("given_ids", "wanted"), [("0", "0"), ("0 1", "0,1"), ("0, 2", "0,2"), ("1,3", "1,3")]
)
def test_gpu_ids_as_scipion_writes_them(given_ids, wanted, tmp_path: Path) -> None:
    line = run_in(native(tmp_path / "bin"), tmp_path, gpu_ids=given_ids)
    assert f"CUDA_VISIBLE_DEVICES={wanted}" in shlex.split(line)


def test_without_a_choice_the_engine_sees_every_gpu(tmp_path: Path) -> None:
    assert "CUDA_VISIBLE_DEVICES" not in run_in(native(tmp_path / "bin"), tmp_path, gpu_ids=None)


@pytest.mark.parametrize("make", [native, container])
def test_caches_go_to_the_run_where_the_home_is_not_writable(
    make, tmp_path: Path, monkeypatch
) -> None:
    run = tmp_path / "project" / "Runs" / "1"
    assert "XDG_CACHE_HOME" not in run_in(make(tmp_path / "bin"), tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    words = shlex.split(run_in(make(tmp_path / "bin"), tmp_path))
    for name in launcher.CACHE_VARIABLES:
        assert f"{name}={run / 'tmp' / 'cache'}" in words


def test_a_cache_of_the_users_choice_is_seen_by_the_container(tmp_path: Path, monkeypatch) -> None:
    cache = tmp_path / "fast disk" / "cache"
    cache.mkdir(parents=True)
    monkeypatch.setenv("CRYOSIAM_CACHE", str(cache))
    assert str(cache) in bound(shlex.split(run_in(container(tmp_path / "bin"), tmp_path)))


def test_a_scratch_disk_is_seen_by_the_container(tmp_path: Path) -> None:
    """Scipion may make the run's folder for temporary files a link to a local disk."""
    run, scratch = tmp_path / "project/Runs/1", tmp_path / "scratch"
    run.mkdir(parents=True)
    scratch.mkdir()
    (run / "tmp").symlink_to(scratch)
    assert str(scratch) in shlex.split(run_in(container(tmp_path / "bin"), tmp_path))


def test_work_folder_may_be_relative(tmp_path: Path) -> None:
    (tmp_path / "project/Runs/1").mkdir(parents=True)
    absolute = run_in(container(tmp_path / "bin"), tmp_path)
    assert run_in(container(tmp_path / "bin"), tmp_path, work_folder=Path("Runs/1")) == absolute


# ------------------------------------------------------------------ the environment


def test_environment_without_scipions_python() -> None:
    environ = {
        "PATH": "/usr/bin",
        "PYTHONPATH": "/scipion",
        "LD_LIBRARY_PATH": "/scipion/lib",
        "CONDA_SHLVL": "2",
        "CONDA_PREFIX_1": "/conda",
        "VIRTUAL_ENV_PROMPT": "x",
        "SLURM_JOB_ID": "12",
        "CUDA_VISIBLE_DEVICES": "3",
    }
    assert engine_environment(environ) == {
        "PATH": "/usr/bin",
        "SLURM_JOB_ID": "12",
        "CUDA_VISIBLE_DEVICES": "3",
    }


def test_the_line_cleans_any_environment_by_itself(tmp_path: Path) -> None:
    """As in a queue's job, which does not start in the environment that we prepare."""
    settings = native(tmp_path / "bin")
    Path(settings.engine_python).write_text("#!/bin/sh\nexec env\n")
    dirty = {**os.environ, **dict.fromkeys(HIDDEN, "/dirty"), "SLURM_JOB_ID": "7"}
    out = subprocess.run(
        ["/bin/sh", "-c", run_in(settings, tmp_path, gpu_ids="1")],
        env=dirty,
        stdout=subprocess.PIPE,
    ).stdout.decode()
    seen = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert not set(HIDDEN) & set(seen)
    assert seen["SLURM_JOB_ID"] == "7"
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"


def test_foreign_modules_do_not_reach_the_engine(tmp_path: Path, engine_python: str) -> None:
    """A module of the engine's name in PYTHONPATH and in the working folder is not taken."""
    foreign = tmp_path / "project" / "cryosiam_engine"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('foreign')")
    command = engine_command(
        LaunchSettings("native", engine_python), ["--version"], work_folder=tmp_path
    )
    dirty = {**command.environment, "PYTHONPATH": str(tmp_path / "project")}
    done = subprocess.run(["/bin/sh", "-c", command.shell_line], env=dirty, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout.startswith(b"cryosiam-engine ")


# ------------------------------------------------------------------ quoting


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(words=st.lists(NAMES | st.sampled_from(NASTY), min_size=1, max_size=4))
@example(words=NASTY)
def test_arguments_survive_the_shell(words: list[str], tmp_path: Path) -> None:
    command = engine_command(native(tmp_path / "bin"), words, work_folder=tmp_path, gpu_ids="0")
    assert heard(command.shell_line) == ["-I", "-m", "cryosiam_engine.cli", *words]
    assert not (tmp_path / "project" / "pwned").exists()


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(words=st.lists(NAMES | st.sampled_from(NASTY), min_size=1, max_size=3))
@example(words=NASTY)
def test_arguments_survive_scipions_run_job(words: list[str], tmp_path: Path) -> None:
    """With the very function that builds Scipion's line, for this process and for a queue."""
    command = engine_command(native(tmp_path / "bin"), words, work_folder=tmp_path, gpu_ids="0")
    line = buildRunCommand(command.program, command.arguments, 1, None, Environ(), gpuList=[])
    assert heard(line, command.environment) == ["-I", "-m", "cryosiam_engine.cli", *words]


@pytest.mark.parametrize("name", [name for name in NASTY if "/" not in name])
def test_every_folder_may_have_a_nasty_name(name: str, tmp_path: Path) -> None:
    """The environment's, the project's, the data's, the image's and the models' folder."""
    place = tmp_path / name
    folders = [place / part for part in ("project", "data", "models")]
    for folder in folders:
        folder.mkdir(parents=True)
    os.chdir(folders[0])
    (place / "data" / f"{name}.mrc").touch()
    inputs = [place / "data" / f"{name}.mrc"]
    command = engine_command(
        native(place / "bin"), ["doctor"], work_folder=folders[0], inputs=inputs
    )
    assert heard(command.shell_line)[-1] == "doctor"
    settings = container(place, models=str(folders[2]))
    words = heard(
        engine_command(settings, ["doctor"], work_folder=folders[0], inputs=inputs).shell_line
    )
    assert words[-5:] == ["--pwd", str(folders[0]), settings.sif, "cryosiam-engine", "doctor"]
    assert bound(words) == sorted(map(str, folders))
    assert not any(tmp_path.rglob("pwned"))


def bound(words: list[str]) -> list[str]:
    """What apptainer would bind, by the rules of its own parsers of these two options."""
    found = []
    for option, value in zip(words, words[1:]):
        if option == "--bind":
            found += sources_of_bind(value)
        if option == "--mount":
            found += sources_of_mount(value)
    return found


def sources_of_bind(value: str) -> list[str]:
    """Of one without a destination: pkg/runtime/engine/apptainer/config/bind.go.

    Commas and ^ part it, colons too; every part is trimmed; a backslash at the end of one is a
    comma that joins it to the next.
    """
    sources, waiting = [], ""
    # Before Apptainer 1.4 a comma-separated line was taken apart first.
    [parts] = csv.reader([value], strict=True)
    for part in (match.strip() for text in parts for match in re.findall("[^,^:]+:?", text)):
        assert not part.endswith(":"), "what follows would be a destination"
        if part.endswith("\\") and not waiting:
            waiting = f"{part[:-1]},"
        else:
            sources.append(waiting + part)
            waiting = ""
    return sources + ([waiting] if waiting else [])


def sources_of_mount(value: str) -> list[str]:
    """Comma-separated values as Go reads them: mount.go beside it."""
    records = csv.reader([value.replace("\r\n", "\n")], strict=True)
    found = []
    for record in records:
        fields = dict(field.split("=", 1) for field in record)
        assert fields["type"] == "bind"
        assert fields["source"] == fields["destination"]
        found.append(fields["source"])
    return found


# ------------------------------------------------------------------ binds


def test_links_are_bound_where_they_lead(tmp_path: Path) -> None:
    project, data, disk = (tmp_path / name for name in ("project", "data", "disk"))
    for folder in (data, disk):
        folder.mkdir()
    (disk / "raw.mrc").touch()
    (data / "link.mrc").symlink_to("../disk/raw.mrc")
    (project / "TS_01.mrc").symlink_to(data / "link.mrc")
    assert bind_paths([project / "TS_01.mrc"]) == [data, disk, project]


def test_a_folder_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    real = tmp_path / "mnt" / "real"
    real.mkdir(parents=True)
    (real / "raw.mrc").touch()
    (tmp_path / "data").symlink_to(real)
    (tmp_path / "project" / "TS_01.mrc").symlink_to(tmp_path / "data" / "raw.mrc")
    folders = bind_paths([tmp_path / "project" / "TS_01.mrc"])
    assert set(folders) == {tmp_path / "project", tmp_path / "data", real}


def test_only_what_exists_is_bound_and_nothing_twice(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "Runs" / "1"
    inner.mkdir(parents=True)
    (inner / "run.yaml").touch()
    paths = [inner / "run.yaml", inner, tmp_path / "project", tmp_path / "absent" / "x.mrc"]
    assert bind_paths(paths) == [tmp_path / "project"]
    (inner / "broken.mrc").symlink_to(tmp_path / "gone.mrc")
    assert bind_paths([inner / "broken.mrc"]) == []


def test_circles_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert bind_paths([tmp_path / "a"]) == []


def test_the_root_is_never_bound() -> None:
    file_in_root = next((path for path in Path("/").iterdir() if path.is_file()), None)
    if file_in_root is None:
        pytest.skip("no file lies in /")
    assert Path("/") not in bind_paths([file_in_root])
    assert bind_paths([file_in_root]) == [file_in_root]
    assert bind_options([Path("/")]) == []


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(name=NAMES | st.text('a ^\\,:"\t\r\n=', min_size=1, max_size=6))
@example(name="a^b")
@example(name="trailing ")
@example(name="\u00a0")
@example(name="back\\")
@example(name="line\r\nend")
def test_apptainer_binds_that_folder_and_no_other(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    try:
        options = bind_options([folder])
    except BindError as error:
        assert "\r\n" in name
        assert "Rename" in error.remedy
        return
    assert "\r\n" not in name
    assert bound(options) == [str(folder)]


#: What an image of this engine cannot do without, wherever its base comes from.
IMAGES_OWN = (
    "/opt/cryosiam/bin/python",
    "/opt/cryosiam/lib/python3.11/site-packages/torch/__init__.py",
    "/usr/bin/python3.11",
    "/usr/lib/python3.11/os.py",
    "/usr/local/bin/python3.11",
    "/usr/local/lib/python3.11/os.py",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/bin/sh",
    "/etc/cryosiam-image.json",
    "/etc/ssl/certs/ca-certificates.crt",
    "/proc/self/status",
    "/sys/devices",
    "/dev/null",
)


def files_of_the_system() -> list[Path]:
    """Some real files where the image has its own things, of every folder that has any."""
    places = {Path(own).parent for own in IMAGES_OWN} | {
        parent for own in IMAGES_OWN for parent in Path(own).parents
    }
    found = []
    for place in sorted(places):
        with suppress(OSError):
            found += [path for path in sorted(place.iterdir())[:40] if path.is_file()]
    # A process's own files are others for everybody who looks.
    return [path for path in found if path.parts[1] not in ("dev", "proc")]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_of_the_images_own_is_hidden(data, tmp_path: Path) -> None:
    """Whatever is read on the host, and wherever links lead."""
    drawn = data.draw(st.lists(st.sampled_from(files_of_the_system()), min_size=1, max_size=4))
    with tempfile.TemporaryDirectory(dir=tmp_path) as place:
        links = [Path(place) / f"{i}.mrc" for i in range(len(drawn))]
        for link, path in zip(links, drawn):
            link.symlink_to(path)
        folders = bind_paths([*drawn, *links])
        for path in [*drawn, *links]:
            assert readable(path, folders)
    asked = {*drawn, *(path.resolve() for path in drawn)}
    for folder in folders:
        hidden = [own for own in IMAGES_OWN if folder == Path(own) or folder in Path(own).parents]
        assert not hidden or folder in asked, f"{folder} hides {hidden}"


@pytest.mark.parametrize(
    "folder", ["/opt", "/usr", "/etc", "/lib", "/bin", "/usr/lib", "/usr/local", "/etc/ssl/certs"]
)
def test_a_folder_that_the_image_has_too_is_refused(folder: str, tmp_path: Path) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"no {folder} here")
    with pytest.raises(BindError, match=f"The folder {folder} cannot be shown"):
        bind_paths([tmp_path, Path(folder)])
    with pytest.raises(LaunchError) as caught:
        run_in(container(tmp_path / "bin", models=folder), tmp_path)
    assert folder in caught.value.message
    assert "folder of another name" in caught.value.remedy
    run_in(native(tmp_path / "bin"), tmp_path)


@pytest.mark.parametrize("folder", ["/opt/data", "/usr/local/data", "/opt/cryosiam/models", "/srv"])
def test_a_folder_beside_the_images_own_is_seen(folder: str, monkeypatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) in (folder, "/"))
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert bind_paths([Path(folder) / "TS_01.mrc"]) == [Path(folder)]


@st.composite
def chains_of_links(draw) -> tuple[list[str], list[bool]]:
    """Folders with any names, a link from each to the next, and which links are relative."""
    folders = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    return folders, draw(st.lists(st.booleans(), min_size=len(folders), max_size=len(folders)))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(chains=st.lists(chains_of_links(), min_size=1, max_size=3), data=st.data())
def test_a_container_that_sees_only_the_binds_reads_every_file(chains, data, tmp_path) -> None:
    """Follow each file as a kernel does that knows nothing but what is bound."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as place:
        starts = [chain(Path(place) / str(i), *drawn) for i, drawn in enumerate(chains)]
        wanted = [*starts, Path(place) / "absent" / "x.mrc"]
        order = data.draw(st.permutations(wanted))
        folders = bind_paths(order)
        for start in starts:
            assert readable(start, folders)
        assert folders == bind_paths(wanted), "the order does not matter"
        assert folders == bind_paths([*folders, *wanted]), "what is bound already adds nothing"
        for folder in folders:
            assert folder.is_absolute()
            assert folder.exists()
            assert not set(folder.parents) & set(folders)
            # No more than needed: only folders that a file or a link lies in.
            assert any(path.parent == folder for path in Path(place).rglob("*"))
        assert bound(bind_options(wanted)) == list(map(str, folders))


def chain(place: Path, folders: list[str], relative: list[bool]) -> Path:
    """Make links through all folders to a real file in the last; give the first."""
    paths = [place / f"{i}{name}" / "x.mrc" for i, name in enumerate(folders)]
    for path in paths:
        path.parent.mkdir(parents=True)
    paths[-1].touch()
    for link, target, is_relative in zip(paths, paths[1:], relative):
        link.symlink_to(os.path.relpath(target, link.parent) if is_relative else target)
    return paths[0]


def readable(path: Path, folders: list[Path]) -> bool:
    """Whether every step of the way to the real file lies in one of the folders."""
    for _ in range(40):
        path = Path(os.path.normpath(path))
        if not any(folder == path or folder in path.parents for folder in folders):
            return False
        if not path.is_symlink():
            return path.exists()
        path = path.parent.resolve() / os.readlink(path)
    return False


# ------------------------------------------------------------------ the choice of a runtime


def test_auto_takes_the_container_first(tmp_path: Path) -> None:
    both = container(tmp_path, runtime="auto", engine_python=native(tmp_path / "bin").engine_python)
    assert choose_runtime(both) is Runtime.APPTAINER
    Path(both.sif).unlink()
    assert choose_runtime(both) is Runtime.NATIVE


@pytest.mark.parametrize("name", ["apptainer", "singularity"])
def test_apptainer_is_looked_for_in_path(name: str, tmp_path: Path, monkeypatch) -> None:
    settings = container(tmp_path / "bin", apptainer="")
    (tmp_path / "bin" / "apptainer").rename(tmp_path / "bin" / name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert choose_runtime(settings) is Runtime.APPTAINER
    assert find_apptainer(settings) == str(tmp_path / "bin" / name)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"runtime": "docker"}, ["docker", "auto, apptainer, native", "CRYOSIAM_RUNTIME"]),
        ({"runtime": "native"}, ["scipion3 installb cryosiam_engine", "CRYOSIAM_ENGINE_PYTHON"]),
        ({"runtime": "native", "engine_python": "/no/python"}, ["/no/python"]),
        ({"runtime": "native", "engine_python": "/"}, ["no Python at /"]),
        ({"runtime": "native", "engine_python": "/bin/sh"}, ["no cryosiam-engine"]),
        ({"runtime": "apptainer"}, ["CRYOSIAM_SIF", "scipion3 installb cryosiam_sif"]),
        (
            {"runtime": "apptainer", "sif": "/no/image.sif"},
            ["/no/image.sif", "CRYOSIAM_SIF", "scipion3 installb cryosiam_sif"],
        ),
        ({"runtime": "apptainer", "sif": "/usr"}, ["/usr", "does not exist"]),
        (
            {"runtime": "apptainer", "sif": sys.executable, "apptainer": "/no/apptainer"},
            ["/no/apptainer", "CRYOSIAM_APPTAINER"],
        ),
        (
            {"runtime": "auto"},
            ["scipion3 installb cryosiam_engine", "scipion3 installb cryosiam_sif"],
        ),
        ({"runtime": "auto", "sif": "/no/image.sif"}, ["/no/image.sif"]),
    ],
)
def test_what_is_missing_is_named_with_a_remedy(changes, names) -> None:
    with pytest.raises(LaunchError) as caught:
        choose_runtime(LaunchSettings(**changes))
    for name in names:
        assert name in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["image.sif", *(name for name in NASTY if "\n" not in name)])
def test_an_image_that_is_missing_elsewhere_is_built_there(name: str, tmp_path: Path) -> None:
    """Not where installb would build it: the command is exact, and ready to be pasted."""
    sif = str(tmp_path / "shared images" / name)
    settings = container(tmp_path, sif=sif, installed_sif="/software/cryosiam-engine.sif")
    with pytest.raises(LaunchError) as caught:
        choose_runtime(settings)
    command = caught.value.remedy.splitlines()[1]
    script = Path(cryosiam_plugin.__file__).parent / "containers" / "build_sif.sh"
    assert shlex.split(command) == ["bash", str(script), sif]
    assert heard(f"set -- {command.strip()}; printf '%s\\0' \"$@\"")[-1] == sif
    assert "remove CRYOSIAM_SIF from Scipion's configuration" in caught.value.remedy


@pytest.mark.parametrize("sif", ["", "/software/cryosiam-engine.sif"])
def test_an_image_that_is_not_installed_yet_is_installed(sif: str, tmp_path: Path) -> None:
    settings = container(tmp_path, sif=sif, installed_sif="/software/cryosiam-engine.sif")
    with pytest.raises(LaunchError) as caught:
        choose_runtime(settings)
    assert caught.value.remedy.startswith("Build the image with 'scipion3 installb cryosiam_sif'")
    assert "build_sif.sh" not in caught.value.remedy


def labelled(settings: LaunchSettings, **labels: str) -> None:
    """Let the stand-in for apptainer say what labels an image has."""
    ours = {f"org.opencontainers.image.{name}": value for name, value in labels.items()}
    said = json.dumps({"data": {"attributes": {"labels": ours}}, "type": "container"})
    asked = Path(settings.apptainer).with_name("asked")
    Path(settings.apptainer).write_text(
        f'#!/bin/sh\n[ "$1" = inspect ] || exit 0\necho "$@" >>{shlex.quote(str(asked))}\n'
        f"echo {shlex.quote(said)}\n"
    )


def test_an_image_of_another_version_is_refused(tmp_path: Path) -> None:
    """A shared image that was not built again after an upgrade would not know new settings."""
    settings = container(tmp_path, version="0.2.0")
    labelled(settings, title="cryosiam-engine", version="0.1.0")
    with pytest.raises(LaunchError) as caught:
        engine_command(settings, ["doctor"], work_folder=tmp_path)
    assert f"{settings.sif} has version 0.1.0 of the engine" in caught.value.message
    assert "works with 0.2.0" in caught.value.message
    assert f"build_sif.sh {settings.sif}" in caught.value.remedy
    # Looked at by every form of the tree: no program is run for it.
    assert choose_runtime(settings) is Runtime.APPTAINER
    assert Path(settings.apptainer).with_name("asked").read_text().count("inspect") == 1
    Path(settings.sif).write_text("built again")
    os.utime(settings.sif, ns=(1, 1))
    labelled(settings, title="cryosiam-engine", version="0.2.0")
    assert settings.sif in engine_command(settings, ["doctor"], work_folder=tmp_path).shell_line


@pytest.mark.parametrize(
    "labels", [{}, {"title": "debian", "version": "12.9"}, {"title": "cryosiam-engine"}]
)
def test_an_image_that_does_not_say_its_version_is_taken(labels, tmp_path: Path) -> None:
    settings = container(tmp_path, version="0.2.0")
    labelled(settings, **labels)
    assert settings.sif in engine_command(settings, ["doctor"], work_folder=tmp_path).shell_line


def test_instead_of_an_image_of_another_version_the_environment(tmp_path: Path, caplog) -> None:
    settings = replace(either(tmp_path), version="0.2.0")
    labelled(settings, title="cryosiam-engine", version="0.1.0")
    with caplog.at_level("INFO"):
        command = engine_command(settings, ["doctor"], work_folder=tmp_path)
    assert settings.engine_python in command.shell_line
    assert "has version 0.1.0 of the engine" in caplog.text
    assert "its own environment instead" in caplog.text


def either(tmp_path: Path) -> LaunchSettings:
    """Both a native environment and an image."""
    python = native(tmp_path / "bin").engine_python
    return container(tmp_path, runtime="auto", engine_python=python)


def test_inside_of_a_container_the_engine_is_native(tmp_path: Path, monkeypatch, caplog) -> None:
    """Scipion itself in Apptainer: said in the log, and only by those who made an image."""
    both = either(tmp_path)
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/scipion.sif")
    assert choose_runtime(both) is Runtime.NATIVE
    with caplog.at_level("INFO"):
        command = engine_command(both, ["doctor"], work_folder=tmp_path)
    assert both.engine_python in command.shell_line
    assert "/images/scipion.sif" in caplog.text
    caplog.clear()
    Path(both.sif).unlink()
    with caplog.at_level("INFO"):
        engine_command(both, ["doctor"], work_folder=tmp_path)
    assert not caplog.text


def test_inside_of_a_container_without_a_native_engine(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SINGULARITY_CONTAINER", "/images/scipion.sif")
    with pytest.raises(LaunchError) as caught:
        choose_runtime(container(tmp_path, runtime="auto"))
    for part in ("/images/scipion.sif", "installb cryosiam_engine", "CRYOSIAM_RUNTIME"):
        assert part in str(caught.value)
    # Some sites allow it: who asks for it gets it.
    assert choose_runtime(container(tmp_path)) is Runtime.APPTAINER


def test_a_container_is_also_known_by_its_folder(tmp_path: Path) -> None:
    assert container_checks.enclosing_container({}, tmp_path / "absent") == ""
    assert container_checks.enclosing_container({}, tmp_path) == str(tmp_path)


def test_auto_takes_only_a_container_that_starts(tmp_path: Path, monkeypatch, caplog) -> None:
    both = either(tmp_path)
    command = engine_command(both, ["doctor"], work_folder=tmp_path)
    assert both.apptainer in command.shell_line
    container_checks.start_failure.cache_clear()
    Path(both.apptainer).write_text("#!/bin/sh\necho 'FATAL: no user namespaces' >&2\nexit 255\n")
    with caplog.at_level("INFO"):
        command = engine_command(both, ["doctor"], work_folder=tmp_path)
    assert both.apptainer not in command.shell_line
    assert both.engine_python in command.shell_line
    assert "no user namespaces" in caplog.text
    assert both.sif in caplog.text
    # Where there is no other way, its own error is the one to read.
    only = container(tmp_path / "other", runtime="auto")
    assert only.apptainer in engine_command(only, ["doctor"], work_folder=tmp_path).shell_line


def test_a_sandbox_is_an_image_too(tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    (sandbox / ".singularity.d").mkdir(parents=True)
    settings = container(tmp_path, sif=str(sandbox))
    assert choose_runtime(settings) is Runtime.APPTAINER
    assert find_apptainer(settings) == settings.apptainer
