#!/bin/sh
# What `cryosiam-engine` is in every image, Apptainer's, Docker's, and Apptainer's made of Docker's:
# the engine, in an environment that it can run in.

# The host's own Python and temporary folders mean nothing in here.
unset PYTHONPATH PYTHONHOME LD_PRELOAD
if [ ! -d "${TMPDIR:-/tmp}" ]; then unset TMPDIR; fi
export LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1
# MONAI asks for a name, which a user need not have in here.
export USER="${USER:-cryosiam}"

# A temporary folder of this user's own. Many users may share it, and what is compiled into a cache
# is run again later: it may come from nobody else.
own_folder() {
    user=$(id -u)
    folder=${TMPDIR:-/tmp}/cryosiam-$user
    mkdir -m 700 "$folder" 2>/dev/null
    # Its mode too: in a name space the owner may be seen as nobody, and so may this user.
    found=$(stat -c '%u %a %F' "$folder" 2>/dev/null)
    if [ "$found" = "$user 700 directory" ] && [ -w "$folder" ]; then
        echo "$folder"
    else
        mktemp -d "${TMPDIR:-/tmp}/cryosiam-XXXXXXXX"
    fi
}

# The image cannot be written to, and sometimes there is no home folder that can.
if [ ! -w "${HOME:-/}" ] && caches=$(own_folder); then
    export CRYOSIAM_CACHE="${CRYOSIAM_CACHE:-$caches}"
    export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$caches}"
    export MPLCONFIGDIR="${MPLCONFIGDIR:-$caches}"
    export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$caches}"
    export HF_HOME="${HF_HOME:-$caches}"
    export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$caches}"
    export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$caches}"
    export CUDA_CACHE_PATH="${CUDA_CACHE_PATH:-$caches}"
fi
exec /opt/cryosiam/bin/cryosiam-engine "$@"
