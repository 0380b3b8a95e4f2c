# Sourced by the other scripts: makes .venv in the checkout with the engine in it, once.
# PYTHON chooses the interpreter (3.10 or newer); TORCH what pip installs as PyTorch.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
extras=${1:-}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3.10 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.10 or newer with the venv module. Install one (python3, python3-venv) or set PYTHON." >&2
    return 1
}

stamp="$venv/.installed-$(cat "$root/cryosiam_plugin/engine/pyproject.toml" "${BASH_SOURCE[0]}" <(echo "$extras") | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    echo "Setting up $venv (once; a few minutes) ..."
    python=$(find_python)
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # PyTorch first and by itself: the other packages then take the build that is there.
    "$venv/bin/python" -m pip install --quiet "${TORCH:-torch==2.13.0}"
    "$venv/bin/python" -m pip install --quiet --editable "$root/cryosiam_plugin/engine${extras:+[$extras]}"
    touch "$stamp"
fi
export PATH="$venv/bin:$PATH"
