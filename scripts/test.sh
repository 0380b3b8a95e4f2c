#!/usr/bin/env bash
# Everything that must pass: style, types, tests. --quick leaves out the slow tests; other options
# go to pytest.
options=()
markers=""
for argument in "$@"; do
    if [ "$argument" = --quick ]; then markers="not slow and not container and not slurm and not gui"
    else options+=("$argument"); fi
done
set -- # what is sourced must not see them
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" test
cd "$root"
ruff format --check .
ruff check .
mypy
# One process per core, one thread each (nproc itself obeys OMP_NUM_THREADS).
workers=$(nproc)
export OMP_NUM_THREADS=1
python -m pytest -n "$workers" --dist worksteal ${markers:+-m "$markers"} "${options[@]}"
