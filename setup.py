"""The distribution scipion-em-cryosiam: the plugin, with the engine's source inside it."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

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
