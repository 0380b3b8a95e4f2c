#!/usr/bin/env bash
# Everything that must pass: style, types, the engine's tests, the plugin's tests in a real Scipion.
# --quick leaves out the slow ones; other options and paths go to pytest.
options=()
quick=()
for argument in "$@"; do
    if [ "$argument" = --quick ]; then quick=(-m "not slow and not container and not slurm and not gui")
    else options+=("$argument"); fi
done
set -- # what is sourced must not see them
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/environment.sh" test
cd "$root"
ruff format --check .
ruff check .
mypy
MYPYPATH='' mypy --explicit-package-bases --exclude '/engine/' cryosiam_plugin

# One process per core, one thread each (nproc itself obeys OMP_NUM_THREADS).
workers=$(nproc)
export OMP_NUM_THREADS=1
run_pytest() {
    local code=0
    python -m pytest -n "$workers" "${quick[@]}" "${options[@]}" "$@" || code=$?
    # A path of the user's may have no test for one of the two environments.
    [ "$code" -eq 0 ] || { [ "$code" -eq 5 ] && [ "${#options[@]}" -gt 0 ]; }
}
# Windows are tested on a screen of their own, the map in a browser; what is missing is skipped.
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && [ "${#quick[@]}" -eq 0 ]; then
    if ! command -v Xvfb >/dev/null || ! command -v chromium >/dev/null; then
        apt-get update -qq && apt-get install -y -qq xvfb openbox chromium >/dev/null ||
            echo "No Xvfb or Chromium: no tests of windows or of the map."
    fi
fi
run_pytest --dist worksteal

source "$here/scipion_environment.sh"
# One file to a process: the projects that its tests look at are made once.
run_pytest --dist loadfile tests/plugin tests/gui tests/containers cryosiam_plugin/tests
