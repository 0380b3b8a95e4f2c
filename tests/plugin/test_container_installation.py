from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cryosiam_plugin
from cryosiam_plugin import Plugin, constants
from cryosiam_plugin.container_installation import (
    BUILD_SCRIPT,
    IMAGE,
    build_command,
    image_commands,
)

CONTAINERS = BUILD_SCRIPT.parent
PROJECT = CONTAINERS.parent / "engine" / "pyproject.toml"

# Writes down its arguments; builds what its last argument but one names.
APPTAINER = """#!/bin/bash
if [ "$2" = --help ]; then
    echo --mksquashfs-args
    for i in {1..9999}; do echo "a line that nobody reads" || exit 141; done
    exit
fi
printf '%s\\n' "$@" >"$ASKED"
for last; do image=$before before=$last; done
echo image >"$image"
[ -z "$BROKEN" ] || exit 255
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The plugin's files as installed from the wheel: not a checkout."""
    elsewhere = tmp_path / "else where"
    shutil.copytree(CONTAINERS, elsewhere / "containers")
    init = Path("engine") / "cryosiam_engine" / "__init__.py"
    (elsewhere / init).parent.mkdir(parents=True)
    shutil.copy(CONTAINERS.parent / init, elsewhere / init)
    return elsewhere


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of PATH with an apptainer that only writes down its options."""
    folder = tmp_path / "tools"
    folder.mkdir()
    add_program(folder / "apptainer", APPTAINER)
    return folder


def add_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def build(tmp_path: Path, package: Path, tools: Path):
    """Run the recipe in a package's folder."""
    target, asked = tmp_path / "pack age", tmp_path / "asked"
    target.mkdir()

    def run(
        *words: str, shell: str = "bash", script: str = BUILD_SCRIPT.name, **variables: str
    ) -> subprocess.CompletedProcess:
        path = f"{tools}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "ASKED": str(asked), **variables}
        command = [shell, str(package / "containers" / script), *words]
        done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True)
        done.asked = asked.read_text().splitlines() if asked.exists() else []
        done.package = target
        return done

    return run


def test_the_recipe_is_the_script_and_its_target_the_image() -> None:
    [(command, targets)] = image_commands()
    assert str(BUILD_SCRIPT) in command
    assert targets == [IMAGE]
    packages = {}

    class Recorder:
        def addPackage(self, name: str, **options: object) -> None:
            packages[name] = options

    Plugin.defineBinaries(Recorder())
    package = packages[constants.SIF_PACKAGE]
    assert package["commands"] == image_commands()
    assert not package["default"], "gigabytes that not everybody wants"


# Debian's sh knows nothing of bash: what it carries out, the oldest bash does too.
@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("name", [IMAGE, 'it\'s "an" image; $(x) \\ ^ Å.sif'])
def test_the_image_gets_its_name_and_its_checksum_when_it_is_built(build, shell, name) -> None:
    done = build(name, shell=shell)
    assert done.returncode == 0, done.stderr
    image = done.package / name
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert image.with_name(f"{name}.sha256").read_text() == f"{digest}  {name}\n"
    assert {path.name for path in done.package.iterdir()} == {name, f"{name}.sha256"}
    assert done.asked[0] == "build"
    assert done.asked[-2:] == [f"{image}.part", "containers/apptainer.def"]
    assert "--mksquashfs-args" in done.asked
    assert f"REVISION=distribution {cryosiam_plugin.__version__}" in done.asked


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_options_of_the_user_are_quoted_as_in_a_shell(build, shell: str) -> None:
    options = "--build-arg TORCH=cpu --build-arg 'PIP_OPTIONS=--no-index --find-links /a b' --bind "
    done = build(
        *(IMAGE, "--build-arg", "BASE=it's"),
        shell=shell,
        CRYOSIAM_SIF_OPTIONS=options + '"$(touch pwned);it\'s:/mnt"',
    )
    assert done.returncode == 0, done.stderr
    for word in ("TORCH=cpu", "PIP_OPTIONS=--no-index --find-links /a b", "BASE=it's"):
        assert done.asked[done.asked.index(word) - 1] == "--build-arg"
    assert "$(touch pwned);it's:/mnt" in done.asked
    assert not list(done.package.parent.rglob("pwned"))
    unfinished = build(IMAGE, shell=shell, CRYOSIAM_SIF_OPTIONS="--bind 'x")
    assert unfinished.returncode != 0


def test_a_failed_build_leaves_what_there_was(build) -> None:
    done = build(IMAGE, BROKEN="yes")
    assert done.returncode != 0
    assert list(done.package.iterdir()) == []
    (done.package / IMAGE).write_text("of an earlier build")
    (done.package / f"{IMAGE}.sha256").write_text("of that")
    assert build(IMAGE, BROKEN="yes").returncode != 0
    assert {path.read_text() for path in done.package.iterdir()} == {
        "of an earlier build",
        "of that",
    }


@pytest.mark.parametrize("script", ["build_sif.sh", "build_image.sh"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_without_a_name_it_says_how_it_is_used(build, shell: str, script: str) -> None:
    for words in ([], ["--help"]):
        done = build(*words, shell=shell, script=script)
        assert done.returncode == 2
        assert f"bash {script} " in done.stderr
        assert not done.asked
        assert "#" not in done.stderr


def test_a_folder_is_no_name_for_an_image(build, tmp_path: Path) -> None:
    done = build(str(tmp_path))
    assert done.returncode == 2
    assert "is a folder" in done.stderr


def test_without_apptainer_the_remedy_is_told(build, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for name in ("bash", "cat", "awk", "realpath", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    done = build(IMAGE, PATH=str(tools))
    assert done.returncode != 0
    assert "CRYOSIAM_APPTAINER" in done.stderr


def test_the_command_of_the_remedy_builds_that_image(build, tmp_path: Path) -> None:
    sif = tmp_path / "not yet" / "it's an image; $(touch pwned).sif"
    bash, script, *words = shlex.split(build_command(str(sif)))
    assert (bash, script) == ("bash", str(BUILD_SCRIPT))
    done = build(*words)
    assert done.returncode == 0, done.stderr
    assert sif.read_text() == "image\n"


@pytest.mark.parametrize(
    ("program", "word"), [("docker", "build"), ("podman", "build"), ("buildah", "bud")]
)
def test_the_docker_image_is_labelled(build, tools: Path, program: str, word: str) -> None:
    add_program(tools / program, '#!/bin/sh\nprintf \'%s\\n\' "$@" >"$ASKED"\n')
    words = ["engine:1", "--build-arg", "TORCH=cpu"]
    done = build(*words, script="build_image.sh", CRYOSIAM_DOCKER=str(tools / program))
    assert done.returncode == 0, done.stderr
    version = cryosiam_plugin.__version__
    assert done.asked == [
        *(word, "--build-arg", f"VERSION={version}"),
        *("--build-arg", f"REVISION=distribution {version}", "--build-arg", "TORCH=cpu"),
        *("-t", "engine:1", "-f", "containers/Dockerfile", "."),
    ]


def test_without_docker_the_remedy_is_told(build, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    done = build("engine", script="build_image.sh", PATH=str(tools))
    assert done.returncode != 0
    assert "CRYOSIAM_DOCKER" in done.stderr


# ------------------------------------------------------------------ the source's revision


def git(folder: Path, *words: str) -> str:
    own = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.check_output([*own, *words], cwd=folder, text=True).strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What setup.py needs of this checkout, in a repository of its own."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "engine", "build")
    shutil.copytree(CONTAINERS.parent, folder / "cryosiam_plugin", ignore=ignored)
    engine = CONTAINERS.parent / "engine"
    shutil.copytree(
        engine, folder / "cryosiam_plugin" / "engine", ignore=lambda _, names: set(names) - KEPT
    )
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "MANIFEST.in", "README.md"):
        shutil.copy(REPOSITORY / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


REPOSITORY = CONTAINERS.parents[1]
KEPT = {"cryosiam_engine", "__init__.py", "pyproject.toml"}


def setup(folder: Path, *words: str) -> None:
    said = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words], cwd=folder, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr


def test_packages_know_the_commit_that_they_were_built_from(checkout: Path, build, package) -> None:
    """Built from a checkout, and from the archive of sources that a checkout has made."""
    commit = git(checkout, "rev-parse", "HEAD")
    setup(checkout, "sdist", "build_py", "--build-lib", "built")
    note = Path("cryosiam_plugin") / "containers" / "revision.txt"
    assert (checkout / "built" / note).read_text() == f"{commit}\n"
    [archive] = (checkout / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, package.parent / "sources")
    [sources] = (package.parent / "sources").iterdir()
    setup(sources, "build_py", "--build-lib", "built")
    assert (sources / "built" / note).read_text() == f"{commit}\n"
    assert not (checkout / note).exists(), "a checkout is left as it is"
    # And what is built from such a package is labelled with it.
    shutil.copy(checkout / "built" / note, package / "containers")
    assert f"REVISION={commit}" in build(IMAGE).asked
    (package / "containers" / "revision.txt").write_text("'; touch pwned; '")
    assert f"REVISION=distribution {cryosiam_plugin.__version__}" in build(IMAGE).asked


def test_a_checkout_that_was_changed_says_so(checkout: Path, build, package: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    with (checkout / "setup.py").open("a") as file:
        file.write("\n")
    setup(checkout, "build_py", "--build-lib", "built")
    note = checkout / "built" / "cryosiam_plugin" / "containers" / "revision.txt"
    assert note.read_text() == f"{commit}-dirty\n"
    shutil.copy(note, package / "containers")
    assert f"REVISION={commit}-dirty" in build(IMAGE).asked


# ------------------------------------------------------------------ inside of the image


@pytest.fixture
def in_image(tmp_path: Path, package: Path):
    """Run a script of the image where the image's own folder is one of this test's."""
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib").mkdir()

    def run(script: str, *words: str, **variables: str) -> str:
        path = package / "containers" / script
        path.write_text(path.read_text().replace("/opt/cryosiam", str(prefix)))
        kept = {name: value for name, value in os.environ.items() if name not in CACHES}
        done = subprocess.run(
            ["dash", str(path), *words], env={**kept, **variables}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.prefix = prefix
    return run


CACHES = (
    *("CRYOSIAM_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HF_HOME"),
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"),
)
PYTORCH_INDEX = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]


@pytest.mark.parametrize(
    ("kind", "options", "added"),
    [
        ("cpu", [], PYTORCH_INDEX),
        ("cpu", ["--find-links", "/mnt"], PYTORCH_INDEX),
        ("cpu", ["--no-index", "--find-links", "/mnt"], []),
        ("cpu", ["--index-url=https://example.org"], []),
        ("cpu", ["--extra-index-url", "https://example.org"], []),
        ("cpu", ["-ihttps://example.org"], []),
        ("cuda", [], []),
    ],
)
def test_pytorch_without_cuda_comes_from_its_own_index(in_image, kind, options, added) -> None:
    """The package index has no such build; whoever names another source has it there."""
    said = in_image.prefix / "said"
    add_program(in_image.prefix / "bin" / "python", f'#!/bin/sh\nprintf "%s\\n" "$@" >>{said}\n')
    requirements = str(CONTAINERS / f"requirements-{kind}.txt")
    in_image("install_in_image.sh", "packages", requirements, *options)
    words = said.read_text().splitlines()
    install = words[words.index("install") : words.index("-r")]
    assert install == ["install", "--require-hashes", "--no-deps", *added, *options]


@pytest.fixture
def caches_of(in_image, tmp_path: Path):
    """Where the image's command keeps its caches, for a home folder and a folder in its /tmp."""
    add_program(in_image.prefix / "bin" / "cryosiam-engine", "#!/bin/sh\nexec env\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(home: Path, **variables: str) -> dict[str, str]:
        said = in_image(
            "cryosiam-engine.sh", HOME=str(home), TMPDIR=str(temporary), USER="", **variables
        )
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        assert found["USER"] == "cryosiam"
        return {name: found[name] for name in CACHES if name in found}

    run.folder = temporary / f"cryosiam-{os.getuid()}"
    return run


def test_caches_are_the_users_own(caches_of, tmp_path: Path) -> None:
    assert caches_of(tmp_path) == {}, "a home folder is where they belong"
    missing = tmp_path / "no home"
    assert set(caches_of(missing).values()) == {str(caches_of.folder)}
    assert caches_of.folder.stat().st_mode & 0o777 == 0o700
    assert caches_of(missing, HF_HOME="/data/hf")["HF_HOME"] == "/data/hf"
    assert set(caches_of(missing).values()) == {str(caches_of.folder)}, "the same one again"


def test_caches_are_never_somebody_elses(caches_of, tmp_path: Path) -> None:
    """What is compiled is run again: a folder, or a link, that was put there is not taken."""
    trap = tmp_path / "trap"
    trap.mkdir()
    caches_of.folder.symlink_to(trap)
    missing = tmp_path / "no home"
    [folder] = set(caches_of(missing).values())
    assert Path(folder).parent == caches_of.folder.parent
    assert not Path(folder).is_symlink()
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    if os.getuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    caches_of.folder.unlink()
    caches_of.folder.mkdir(mode=0o700)
    os.chown(caches_of.folder, 12345, 12345)
    [folder] = set(caches_of(missing).values())
    assert folder != str(caches_of.folder)
    assert Path(folder).stat().st_uid == 0
    os.chown(caches_of.folder, 0, 0)
    caches_of.folder.chmod(0o777)
    assert str(caches_of.folder) not in caches_of(missing).values(), "others may write there"


# ------------------------------------------------------------------ the pinned packages


def pins(kind: str) -> dict[str, str]:
    """Versions by normalised name; every line has the checksum of one file."""
    found = {}
    for line in (CONTAINERS / f"requirements-{kind}.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            assert match, line
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_everything_that_the_engine_needs_is_pinned(kind: str) -> None:
    """A new requirement needs the script that makes the files to be run again."""
    declared = re.search(r"^dependencies = \[(.*?)^\]", PROJECT.read_text("utf-8"), re.M | re.S)
    pinned = pins(kind)
    for text in re.findall(r'"([^"]+)"', declared[1]):
        requirement = Requirement(text)
        version = pinned[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version.partition("+")[0]), text
    # The engine is built with it, offline.
    assert "setuptools" in pinned


def test_both_images_have_the_same_versions() -> None:
    cuda, cpu = pins("cuda"), pins("cpu")
    assert f"torch=={cuda.pop('torch')}" == constants.TORCH_REQUIREMENT
    assert f"torch=={cpu.pop('torch').partition('+')[0]}" == constants.TORCH_REQUIREMENT
    assert cpu.items() <= cuda.items()
    assert {name for name in cuda if name not in cpu} >= {"triton", "nvidia-cudnn-cu13"}
