"""Names of the plugin's configuration variables, and the versions it installs."""

from __future__ import annotations

#: How the engine runs: apptainer, native, or auto (what is installed, the container first).
CRYOSIAM_RUNTIME = "CRYOSIAM_RUNTIME"
#: Container image with the engine.
CRYOSIAM_SIF = "CRYOSIAM_SIF"
#: Folder with the published models' checkpoints.
CRYOSIAM_MODELS = "CRYOSIAM_MODELS"
#: Python interpreter of the environment that the engine is installed in.
CRYOSIAM_ENGINE_PYTHON = "CRYOSIAM_ENGINE_PYTHON"
#: The apptainer (or singularity) program.
CRYOSIAM_APPTAINER = "CRYOSIAM_APPTAINER"
#: Further folders that the container must see, separated by commas.
CRYOSIAM_EXTRA_BINDS = "CRYOSIAM_EXTRA_BINDS"

RUNTIME_AUTO = "auto"
RUNTIME_APPTAINER = "apptainer"
RUNTIME_NATIVE = "native"
RUNTIMES = (RUNTIME_AUTO, RUNTIME_APPTAINER, RUNTIME_NATIVE)

# Scipion finds a package by the part of its name before the first hyphen.
ENGINE_PACKAGE = "cryosiam_engine"
SIF_PACKAGE = "cryosiam_sif"
MODELS_PACKAGE = "cryosiam_models"
MODELS_VERSION = "1.0"
#: What pip installs as PyTorch; on Linux this build runs on NVIDIA GPUs and on CPUs.
TORCH_REQUIREMENT = "torch==2.13.0"

#: Å: a header whose voxel size differs relatively by more than this is corrected.
VOXEL_SIZE_TOLERANCE = 1e-3

URL = "https://github.com/scipion-em/scipion-em-cryosiam"
