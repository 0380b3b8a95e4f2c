# Sourced by the other scripts: makes .scipion-venv in the checkout with Scipion, this plugin and
# pytest, once, and sets what Scipion needs to run without its launcher.
# SCIPION_VENV_PYTHON chooses the interpreter (3.8 to 3.12, with tkinter).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scipion_venv="$root/.scipion-venv"

# reliontomo brings the RELION formats to tomo's own export protocol, with the plugins it needs.
scipion_packages=(
    scipion-app==3.8.3 scipion-pyworkflow==3.11.7 scipion-em==3.11.1 scipion-em-tomo==3.12.4
    scipion-em-reliontomo==4.0.5 scipion-em-relion==5.0.2 scipion-em-imod==3.9.1
    pytest pytest-timeout pytest-xdist hypothesis build
)

find_scipion_python() {
    local candidate
    for candidate in ${SCIPION_VENV_PYTHON:-python3.11 python3.10 python3.12 python3.9 python3.8 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip, tkinter
sys.exit(not (3, 8) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.8 to 3.12 with venv and tkinter. Install one (python3-venv, python3-tk) or set SCIPION_VENV_PYTHON." >&2
    return 1
}

scipion_stamp="$scipion_venv/.installed-$(cat "$root/setup.py" "$root/requirements.txt" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-16)"
if [ ! -e "$scipion_stamp" ]; then
    echo "Setting up $scipion_venv (once; a few minutes) ..."
    python=$(find_scipion_python)
    [ -x "$scipion_venv/bin/python" ] || "$python" -m venv "$scipion_venv"
    "$scipion_venv/bin/python" -m pip install --quiet "${scipion_packages[@]}"
    "$scipion_venv/bin/python" -m pip install --quiet --editable "$root"
    touch "$scipion_stamp"
fi
unset python

# Scipion reads these once, at its first import.
export SCIPION_HOME="${SCIPION_HOME:-$root/.scipion/home}"
export SCIPION_USER_DATA="${SCIPION_USER_DATA:-$root/.scipion/userdata}"
export SCIPION_DOMAIN=pwem
export SCIPION_PYTHON="$scipion_venv/bin/python"
export SCIPION_NOTIFY=False
export SCIPION_PRIORITY_PACKAGE_LIST="pwem tomo"
# The engine's environment as scripts/environment.sh makes it, unless another one is set.
export CRYOSIAM_ENGINE_PYTHON="${CRYOSIAM_ENGINE_PYTHON:-$root/.venv/bin/python}"
if [ ! -e "$SCIPION_HOME/config/hosts.conf" ]; then
    mkdir -p "$SCIPION_HOME/config"
    printf '[localhost]\nPARALLEL_COMMAND = mpirun -np %%%%_(JOB_NODES)d %%%%_(COMMAND)s\n' \
        >"$SCIPION_HOME/config/hosts.conf"
fi
mkdir -p "$SCIPION_USER_DATA"
export PATH="$scipion_venv/bin:$PATH"
