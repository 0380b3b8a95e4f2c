#!/usr/bin/env bash
# Builds the Apptainer image of the engine that this package brings:
#   build_sif.sh IMAGE.sif [OPTION OF apptainer build...]
# For instance with --build-arg TORCH=cpu. CRYOSIAM_SIF_OPTIONS adds further options, quoted as in a
# shell; CRYOSIAM_APPTAINER chooses the program. The image gets its name only when its own test has
# passed; beside it is its SHA-256.
set -euo pipefail
image=$(realpath -m -- "$1")
shift
more=()
if [ -n "${CRYOSIAM_SIF_OPTIONS:-}" ]; then
    readarray -d '' more < <(xargs printf '%s\0' <<<"$CRYOSIAM_SIF_OPTIONS")
fi

# Scipion's own Python must not leak into the build.
unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH LD_PRELOAD
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

program=${CRYOSIAM_APPTAINER:-}
for candidate in apptainer singularity; do
    if [ -z "$program" ] && command -v "$candidate" >/dev/null; then program=$candidate; fi
done
if [ -z "$program" ]; then
    echo "Neither apptainer nor singularity is in PATH: install Apptainer 1.2 or newer, or set" >&2
    echo "CRYOSIAM_APPTAINER to it. Or build the image on another computer and copy it." >&2
    exit 1
fi

options=()
# Who is not root with all of its rights builds in a name space where he looks like it.
all=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
own=$((16#$(awk '/^CapEff:/ {print $2}' /proc/self/status)))
if [ "$own" -ne "$all" ]; then options+=(--fakeroot); fi
# Several times faster than the default compression, and as small.
if "$program" build --help | grep -q -- --mksquashfs-args; then
    options+=(--mksquashfs-args "-comp zstd -Xcompression-level ${CRYOSIAM_SIF_COMPRESSION:-6}")
fi
# A checkout's revision; an installed package may lie inside of a checkout of something else.
if git ls-files --error-unmatch containers/apptainer.def >/dev/null 2>&1; then
    revision=$(git describe --always --abbrev=40 --dirty --exclude '*')
else
    revision="distribution $(sed -n 's/^__version__ = "\(.*\)"/\1/p' __init__.py)"
fi

mkdir -p "$(dirname -- "$image")"
"$program" build --force "${options[@]}" --build-arg "REVISION=$revision" "${more[@]}" "$@" \
    "$image.part" containers/apptainer.def
mv -- "$image.part" "$image"
digest=$(sha256sum -- "$image")
printf '%s  %s\n' "${digest%% *}" "$(basename -- "$image")" >"$image.sha256"
