#!/usr/bin/env bash
# Brings published models into the folder of models, from the folder of a Scipion package:
#   install_models.sh STAMP FOLDER [NAME FILE URL SHA256]...
# The folder is CRYOSIAM_MODELS, else FOLDER beside the package's own. The engine that is installed,
# in its own environment or in a container, downloads and verifies; without one, wget does, which
# knows no checksum where SHA256 is -.
set -uo pipefail
stamp=$1 default=$2
shift 2
rm -f "$stamp"
software=$(dirname "$PWD")

# As Scipion reads its variables: ~ is the home folder, other paths begin at Scipion's.
absolute() {
    local path=${1/#\~/$HOME}
    case $path in /*) echo "$path" ;; *) echo "${SCIPION_HOME:-$software/../..}/$path" ;; esac
}

folder=$(absolute "${CRYOSIAM_MODELS:-$software/$default}")
mkdir -p "$folder" || exit 1

# Scipion's own Python must not leak into the engine's.
unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH
engine=()
downloads() { "$@" models download --help >/dev/null 2>&1 && engine=("$@"); }

find_engine() {
    local candidate program=${CRYOSIAM_APPTAINER:-apptainer}
    for candidate in "$(absolute "${CRYOSIAM_ENGINE_PYTHON:--}")" \
        "$software"/cryosiam_engine-*/env/bin/python; do
        [ -x "$candidate" ] && downloads "$candidate" -I -m cryosiam_engine.cli && return
    done
    for candidate in "$(absolute "${CRYOSIAM_SIF:--}")" "$software"/cryosiam_sif-*/*.sif; do
        [ -f "$candidate" ] && command -v "$program" >/dev/null &&
            downloads "$program" exec --bind "$folder" "$candidate" cryosiam-engine && return
    done
    return 1
}

# A download goes on where it stopped, and gets its name when it is whole.
fetch() {
    local file=$1 url=$2 sha256=$3 partial=$folder/.$1.part
    [ -f "$folder/$file" ] && return
    wget -nv -c -O "$partial" "$url" || return
    # Away with a wrong file: a second try would take it for a download to go on with.
    if [ "$sha256" != - ] && ! echo "$sha256  $partial" | sha256sum -c - >&2; then
        rm "$partial"
        return 1
    fi
    mv "$partial" "$folder/$file"
}

failed=0
if find_engine; then
    names=()
    for ((n = 1; n <= $#; n += 4)); do names+=("${!n}"); done
    "${engine[@]}" models download "${names[@]}" --folder "$folder" || failed=1
else
    echo "CryoSiam's engine is not installed yet: wget downloads, and nothing is verified." >&2
    while [ $# -ge 4 ]; do
        fetch "$2" "$3" "$4" || { echo "$2 could not be downloaded from $3" >&2; failed=1; }
        shift 4
    done
fi
[ "$failed" = 0 ] || exit 1
echo "The models are in $folder"
touch "$stamp"
