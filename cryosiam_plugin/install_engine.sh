#!/usr/bin/env bash
# Makes the environment that CryoSiam's engine runs in:
#   install_engine.sh ENVIRONMENT ENGINE_SOURCE TORCH_REQUIREMENT STAMP
# With Python 3.10 or newer on this computer it is a virtual environment, else conda's.
# PYTHON chooses the interpreter, CRYOSIAM_TORCH what pip installs as PyTorch.
set -euo pipefail
environment=$1 source=$2 torch=${CRYOSIAM_TORCH:-$3} stamp=$4

# Scipion's own Python must not leak into the new one.
unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH PIP_TARGET PIP_PREFIX PIP_USER
export PYTHONNOUSERSITE=1

suitable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' \
        2>/dev/null
}

make_environment() {
    local candidate
    for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3.10 python3.14 python3}; do
        if suitable "$candidate"; then
            "$candidate" -m venv --clear "$environment"
            return
        fi
    done
    # Scipion's configuration says how to activate conda where it is not in PATH.
    # It may end with the && or ; that joins it to a command.
    local conda activation=${CONDA_ACTIVATION_CMD:-}
    while [[ $activation == *[\ \&\;] ]]; do activation=${activation%?}; done
    set +u
    eval "$activation" || true
    set -u
    for conda in "${CONDA_EXE:-}" conda mamba micromamba; do
        if [ -n "$conda" ] && command -v "$conda" >/dev/null; then
            "$conda" create --yes --prefix "$PWD/$environment" \
                --override-channels --channel conda-forge python=3.12 pip
            return
        fi
    done
    echo "Neither Python 3.10 or newer (with its venv module) nor conda is found." >&2
    echo "Install one of them, or set PYTHON, or CONDA_ACTIVATION_CMD in scipion.conf." >&2
    return 1
}

if [ ! -x "$environment/bin/python" ] || ! suitable "$environment/bin/python"; then
    make_environment
fi
pip=("$environment/bin/python" -m pip --disable-pip-version-check install)

# pip builds in the source's folder, where the user may not be allowed to write.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R "$source" "$copy/engine"

# PyTorch first and by itself: the other packages then take the build that is there.
"${pip[@]}" "$torch"
"${pip[@]}" --upgrade "$copy/engine"
"$environment/bin/cryosiam-engine" --version >"$stamp.part"
mv "$stamp.part" "$stamp"
