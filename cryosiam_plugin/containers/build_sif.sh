#!/bin/sh
# Builds the Apptainer image of the engine that this package brings:
#   bash build_sif.sh IMAGE.sif [OPTION OF apptainer build...]
# For instance with --build-arg TORCH=cpu. CRYOSIAM_SIF_OPTIONS adds further options, quoted as in a
# shell; CRYOSIAM_APPTAINER chooses the program. The image gets its name only when its own test has
# passed; beside it is its SHA-256.
set -eu
case ${1:-} in
    '' | -*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
image=$(realpath -m -- "$1")
shift
if [ -d "$image" ]; then
    echo "$image is a folder; name the image's file." >&2
    exit 2
fi
if [ -n "${CRYOSIAM_SIF_OPTIONS:-}" ]; then
    # xargs knows quotes, and carries out nothing of what it reads.
    words=$(printf '%s\n' "$CRYOSIAM_SIF_OPTIONS" | xargs printf '%s\n')
    eval "set -- $(printf '%s\n' "$words" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/" | tr '\n' ' ')"' "$@"'
fi

# Scipion's own Python must not leak into the build.
unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH LD_PRELOAD
cd "$(dirname -- "$0")/.."

program=${CRYOSIAM_APPTAINER:-}
for candidate in apptainer singularity; do
    if [ -z "$program" ] && command -v "$candidate" >/dev/null; then program=$candidate; fi
done
if [ -z "$program" ]; then
    echo "Neither apptainer nor singularity is in PATH: install Apptainer 1.2 or newer, or set" >&2
    echo "CRYOSIAM_APPTAINER to it. Or build the image on another computer and copy it." >&2
    exit 1
fi

. containers/source.sh
set -- --build-arg "REVISION=$revision" "$@"
# Several times faster than the default compression, and as small.
case $("$program" build --help) in
    *--mksquashfs-args*)
        set -- --mksquashfs-args "-comp zstd -Xcompression-level ${CRYOSIAM_SIF_COMPRESSION:-6}" "$@"
        ;;
esac
# Who is not root with all of its rights builds in a name space where he looks like it.
all=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
own=$((0x$(awk '/^CapEff:/ {print $2}' /proc/self/status)))
if [ "$own" -ne "$all" ]; then set -- --fakeroot "$@"; fi

mkdir -p "$(dirname -- "$image")"
trap 'rm -f -- "$image.part" "$image.sha256.part"' EXIT
trap 'exit 1' HUP INT TERM
"$program" build --force "$@" "$image.part" containers/apptainer.def
digest=$(sha256sum -- "$image.part")
digest=${digest#\\} # before a name with a backslash in it
printf '%s  %s\n' "${digest%% *}" "$(basename -- "$image")" >"$image.sha256.part"
# Never an image beside the checksum of another.
rm -f -- "$image.sha256"
mv -- "$image.part" "$image"
mv -- "$image.sha256.part" "$image.sha256"
