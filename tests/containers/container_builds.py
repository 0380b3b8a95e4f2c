"""Builds, once per state of the sources, the images that the container tests look at.

Everything real: Apptainer, and from the plugin's installed wheel alone the image, by Scipion's own
installer; the same by buildah from the Dockerfile; and the second as Apptainer converts it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from container_sources import (
    FOLDER,
    REPOSITORY,
    REQUIREMENTS,
    base,
    digest,
    installed_wheel,
    locked,
    note_revision,
    revision,
    run,
    wheels,
)

__all__ = ["REQUIREMENTS", "builder", "converted", "image", "revision", "sif"]

#: Images to test instead of those that are built: a file, a name in buildah's storage, and that one
#: as Apptainer converts it.
GIVEN = os.environ.get("CRYOSIAM_TEST_SIF")
GIVEN_IMAGE = os.environ.get("CRYOSIAM_TEST_IMAGE")
GIVEN_CONVERTED = os.environ.get("CRYOSIAM_TEST_CONVERTED_SIF")
#: Name of the OCI image: buildah has one storage for all checkouts on a computer.
IMAGE = f"localhost/cryosiam-engine-{hashlib.sha256(str(FOLDER).encode()).hexdigest()[:8]}"
BUD = ("buildah", "bud", "--isolation", "chroot")
#: Who builds the Apptainer image, and the ids that he may pretend to have.
BUILDER, SUBORDINATE_IDS = "cryosiam-build", "1100000000:65536"
#: Options of a build of which the size does not count.
QUICK = ("--mksquashfs-args", "-comp zstd -Xcompression-level 1")


def sif() -> Path:
    """The Apptainer image, built by ``installb`` of a Scipion that has only the wheel."""
    if GIVEN:
        return Path(GIVEN)
    site = installed_wheel()
    with locked("sif"):
        stamp = FOLDER / "sif.digest"
        software = FOLDER / "software"
        state = digest()
        if not stamp.exists() or stamp.read_text() != state:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(software, ignore_errors=True)
            install_apptainer()
            note_revision("sif")
            _install_by_scipion(site, software)
            stamp.write_text(state)
        [image] = software.glob("em/cryosiam_sif-*/cryosiam-engine.sif")
        return image


def install_apptainer() -> None:
    """Make sure that Apptainer works on this computer, or skip the test."""
    with locked("apptainer"):
        run("bash", REPOSITORY / "scripts" / "install_apptainer.sh")


def builder() -> str | None:
    """The ordinary user who builds the Apptainer image where we are root; None for ourselves."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        return None
    outside = [folder for folder in FOLDER.resolve().parents if not folder.stat().st_mode & 0o001]
    return None if outside else BUILDER


def _as_builder(user: str) -> Path:
    """A program that is apptainer, of a user who may build: with a home and ids of his own."""
    with locked("builder"):
        if subprocess.run(["id", user], capture_output=True).returncode:
            run("useradd", "--system", "--create-home", user)
        for file in map(Path, ("/etc/subuid", "/etc/subgid")):
            with file.open("a+") as stream:
                stream.seek(0)
                if not any(line.startswith(f"{user}:") for line in stream):
                    stream.write(f"{user}:{SUBORDINATE_IDS}\n")
    home = Path(f"~{user}").expanduser()
    program = FOLDER / "apptainer-as-user"
    words = ["runuser", "-u", user, "--", "env", f"HOME={home}", "apptainer"]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    return program


def _install_by_scipion(site: Path, software: Path) -> None:
    folder, user = base(), builder()
    if user:
        # He cannot read everything in a folder of root's.
        packed = folder.with_suffix(".sif")
        run("apptainer", "build", "--force", *QUICK, packed, folder)
        folder = packed
    options = f"--build-arg TORCH=cpu --build-arg BOOTSTRAP=localimage --build-arg BASE='{folder}'"
    options += f" --bind '{wheels()}:/mnt' --build-arg 'PIP_OPTIONS=--no-index --find-links /mnt'"
    environment = {
        **os.environ,
        **({"CRYOSIAM_APPTAINER": str(_as_builder(user))} if user else {}),
        "PYTHONPATH": str(site),
        "CRYOSIAM_SIF_OPTIONS": options,
        "CRYOSIAM_SIF_COMPRESSION": "1",
        "SCIPION_SOFTWARE": str(software),
        "EM_ROOT": str(software / "em"),
    }
    (software / "em").mkdir(parents=True)
    # What `scipion3 installb cryosiam_sif` runs, in the plugin of that folder.
    program = (
        "import sys, pyworkflow, cryosiam_plugin; from scipion.install.funcs import Environment;"
        f"assert cryosiam_plugin.__file__.startswith({str(site)!r}), cryosiam_plugin.__file__;"
        "sys.argv = ['installb', 'cryosiam_sif', '-j', '1'];"
        "env = Environment(args=['cryosiam_sif']); env.setDefault(False);"
        "cryosiam_plugin.Plugin.defineBinaries(env); env.execute()"
    )
    # The image's folder is made by us, and the image in it by the user.
    shell = ["sh", "-c", 'umask 0; exec "$@"', "sh"] if user else []
    said = run(*shell, sys.executable, "-c", program, cwd=software, env=environment)
    (FOLDER / "sif.log").write_text(said)


def image() -> str:
    """The OCI image of the Dockerfile, built by buildah; its name there."""
    if GIVEN_IMAGE:
        return GIVEN_IMAGE
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("the OCI image is built as root on Debian")
    site = installed_wheel()
    with locked("image"):
        stamp = FOLDER / "image.digest"
        state = digest()
        if not stamp.exists() or stamp.read_text() != state:
            stamp.unlink(missing_ok=True)
            _install_buildah()
            _build_base_image(base())
            arguments = ["BASE=localhost/base", "TORCH=cpu"]
            arguments += ["PIP_OPTIONS=--no-index --find-links /mnt"]
            words = [word for argument in arguments for word in ("--build-arg", argument)]
            words += ["--isolation", "chroot", "--volume", f"{wheels()}:/mnt:ro"]
            # Of an earlier state; without its name it would lie there for ever.
            _forget_image()
            note_revision("image")
            script = site / "cryosiam_plugin" / "containers" / "build_image.sh"
            chosen = {**os.environ, "CRYOSIAM_DOCKER": "buildah"}
            run("bash", script, IMAGE, *words, env=chosen)
            stamp.write_text(state)
    return IMAGE


def converted() -> Path:
    """The OCI image as Apptainer makes a SIF of it."""
    if GIVEN_CONVERTED:
        return Path(GIVEN_CONVERTED)
    name = image()
    install_apptainer()
    with locked("converted"):
        found, stamp = FOLDER / "converted.sif", FOLDER / "converted.digest"
        archive = FOLDER / "archive.tar"
        state = digest()
        if not stamp.exists() or stamp.read_text() != state:
            stamp.unlink(missing_ok=True)
            archive.unlink(missing_ok=True)
            run("buildah", "push", name, f"docker-archive:{archive}:cryosiam-engine:latest")
            run("apptainer", "build", "--force", *QUICK, found, f"docker-archive:{archive}")
            archive.unlink()
            stamp.write_text(state)
        return found


def _forget_image() -> None:
    if subprocess.run(["buildah", "inspect", IMAGE], capture_output=True).returncode == 0:
        # With the containers that tests which were killed have left.
        run("buildah", "rmi", "--force", IMAGE)


def _install_buildah() -> None:
    if not shutil.which("buildah"):
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "buildah")


def _build_base_image(folder: Path) -> None:
    if subprocess.run(["buildah", "inspect", "localhost/base"], capture_output=True).returncode:
        context = FOLDER / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        tar = context / "base.tar"
        tar.unlink(missing_ok=True)
        os.link(f"{folder}.tar", tar)
        run(*BUD, "-t", "localhost/base", context)
