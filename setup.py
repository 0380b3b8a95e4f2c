"""The distribution scipion-em-cryosiam: the plugin, with the engine's source inside it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "cryosiam_plugin/__init__.py").read_text("utf-8"), re.M
)
if VERSION is None:
    raise ValueError("cryosiam_plugin/__init__.py has no __version__")

# The engine is a project of its own that the plugin installs into another environment, so to
# this distribution its modules are data.
ENGINE = [
    str(path.relative_to(HERE / "cryosiam_plugin"))
    for path in sorted((HERE / "cryosiam_plugin/engine").rglob("*"))
    if path.suffix
    in {".py", ".toml", ".yaml", ".md", ".typed", ".html", ".css", ".js", ".safetensors"}
    and not any(part.endswith((".egg-info", "__pycache__", "build")) for part in path.parts)
]

#: Says of a package what it was built from: images that are built from it are labelled with that.
REVISION_FILE = "cryosiam_plugin/containers/revision.txt"


def write_revision(folder: Path) -> None:
    """Write the commit of this checkout into what is built from it; nothing outside of one."""
    # Of another repository, such as one whose hook builds this.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    known = {"cwd": HERE, "env": environment, "stderr": subprocess.DEVNULL}
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
    try:
        subprocess.check_output(["git", "ls-files", "--error-unmatch", "setup.py"], **known)  # noqa: S607
        revision = subprocess.check_output(describe, **known).decode()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return
    (folder / REVISION_FILE).write_text(revision, "utf-8")


class BuildWithRevision(build_py):
    """Builds the package with a note of its origin."""

    def run(self) -> None:
        """Build it; a checkout that is only linked to is left as it is."""
        super().run()
        if not getattr(self, "editable_mode", False):
            write_revision(Path(self.build_lib))


class SourcesWithRevision(sdist):
    """Packs the sources with a note of their origin."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Collect what is packed."""
        super().make_release_tree(base_dir, files)
        write_revision(Path(base_dir))


README = HERE / "README.md"
PLUGIN_FILES = [
    "protocols.conf",
    "icon.png",
    "install_engine.sh",
    "install_models.sh",
    "containers/*",
    "templates/*",
]

setup(
    name="scipion-em-cryosiam",
    version=VERSION.group(1),
    description="CryoSiam for cryo-electron tomography in Scipion",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    keywords="scipion cryo-em cryo-et tomography segmentation denoising deep-learning scipion-3.0",
    cmdclass={"build_py": BuildWithRevision, "sdist": SourcesWithRevision},
    packages=find_packages(
        include=["cryosiam_plugin", "cryosiam_plugin.*"], exclude=["cryosiam_plugin.engine*"]
    ),
    package_data={"cryosiam_plugin": [*PLUGIN_FILES, *ENGINE]},
    install_requires=(HERE / "requirements.txt").read_text("utf-8").split(),
    # Scipion imports the module that the entry point's name says.
    entry_points={"pyworkflow.plugin": ["cryosiam_plugin = cryosiam_plugin"]},
    python_requires=">=3.8",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
    ],
)
