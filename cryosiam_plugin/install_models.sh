#!/usr/bin/env bash
# Brings published models into the folder of models, from the folder of a Scipion package:
#   install_models.sh STAMP FOLDER [NAME FILE URL SHA256]...
# The folder is CRYOSIAM_MODELS, else FOLDER beside the package's own. The engine that is installed,
# in its own environment or in a container, downloads and verifies. Without one, wget downloads, and
# the files are compared with SHA256 or, where it is -, with what the hub says itself.
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
export PYTHONNOUSERSITE=1
engine=()
downloads() { "$@" models download --help >/dev/null 2>&1 && engine=("$@"); }

# As the plugin starts a container: --bind changes or splits other names, --mount takes them quoted.
if [[ $folder =~ ^[[:alnum:]_./+@%=~-]+$ ]]; then
    bind=(--bind "$folder")
else
    quoted=${folder//\"/\"\"}
    bind=(--mount "type=bind,\"source=$quoted\",\"destination=$quoted\"")
fi

find_engine() {
    local candidate program programs=(apptainer singularity)
    for candidate in "$(absolute "${CRYOSIAM_ENGINE_PYTHON:--}")" \
        "$software"/cryosiam_engine-*/env/bin/python; do
        [ -x "$candidate" ] && downloads "$candidate" -I -m cryosiam_engine.cli && return
    done
    [ -z "${CRYOSIAM_APPTAINER:-}" ] || programs=("$CRYOSIAM_APPTAINER")
    for candidate in "$(absolute "${CRYOSIAM_SIF:--}")" "$software"/cryosiam_sif-*/*.sif; do
        [ -f "$candidate" ] || continue
        for program in "${programs[@]}"; do
            command -v "$program" >/dev/null &&
                downloads "$program" exec "${bind[@]}" "$candidate" cryosiam-engine && return
        done
    done
    return 1
}

endpoint=${HF_ENDPOINT:-https://huggingface.co}
endpoint=${endpoint%/}
server=$endpoint
[[ $endpoint =~ ^[a-z]+://[^/]+ ]] && server=${BASH_REMATCH[0]}

# In a file of one's own, since everybody can see a command line; with what wget reads else.
token=
if [ -n "${HF_TOKEN:-}" ]; then
    token=$(mktemp) || exit 1
    trap 'rm -f "$token"' EXIT
    cat "${WGETRC:-$HOME/.wgetrc}" >"$token" 2>/dev/null
    printf '\nheader = Authorization: Bearer %s\n' "${HF_TOKEN//[$'\r\n']/}" >>"$token"
fi

# Follows a file's address (url) to where it lies, and finds its checksum (sha256) on the way. The
# hub sends on to other servers, to which wget would give the token too (login).
locate() {
    local answer place etag hop
    field() { sed -n "s/^ *$1: *//Ip" <<<"$answer" | head -n 1; }
    for hop in 1 2 3 4 5; do
        answer=$(wget ${login:+"--config=$login"} -nv -S --spider --max-redirect=0 --tries=2 \
            --timeout=30 "$url" 2>&1 | tr -d '\r')
        etag=$(field x-linked-etag)
        etag=${etag//\"/}
        [[ $sha256 = - && $etag =~ ^[0-9a-f]{64}$ ]] && sha256=$etag
        place=$(field location)
        case $place in
            '') return ;;
            /*) url=$server$place ;;
            "$server"/*) url=$place ;;
            *) url=$place login= && return ;;
        esac
    done
}

# A zip that has its end, or safetensors; a page to log in to the network is neither.
is_model() {
    case $(head -c 9 "$1" | od -An -v -tx1 | tr -d ' \n') in
        504b0304*) tail -c 65557 "$1" | LC_ALL=C grep -ac $'PK\x05\x06' >/dev/null ;;
        ??????0[0-5]000000007b) true ;;
        *) false ;;
    esac
}

is_good() {
    if ! is_model "$1"; then
        echo "$1 is no model, or half of one: does the network want you to log in, in a browser?" >&2
        return 1
    fi
    [ "$2" = - ] || [ "$(sha256sum <"$1")" = "$2  -" ] && return
    echo "$1 does not have the SHA-256 $2" >&2
    return 1
}

# A download goes on where it stopped, and gets its name when it is whole.
fetch() {
    local file=$1 url=$2 sha256=$3 login=$token
    local partial=$folder/.$1.part
    if [ -f "$folder/$file" ]; then
        is_good "$folder/$file" "$sha256" || { echo "Delete it, and try again." >&2; return 1; }
        return 0
    fi
    locate
    wget ${login:+"--config=$login" --max-redirect=0} -nv --tries=5 --read-timeout=60 -c \
        -O "$partial" "$url" || return
    # Away with a wrong file: a second try would take it for a download to go on with.
    is_good "$partial" "$sha256" || { rm "$partial"; return 1; }
    [ "$sha256" != - ] || echo "$file: its checksum is not known, and was not compared." >&2
    mv "$partial" "$folder/$file"
}

failed=0
if find_engine; then
    names=()
    for ((n = 1; n <= $#; n += 4)); do names+=("${!n}"); done
    "${engine[@]}" models download "${names[@]}" --folder "$folder" || failed=1
elif [[ ${HF_HUB_OFFLINE:-} =~ ^(1|ON|YES|TRUE|on|yes|true)$ ]]; then
    echo "HF_HUB_OFFLINE is set: nothing is downloaded." >&2
    failed=1
else
    echo "CryoSiam's engine is not installed yet: wget downloads." >&2
    while [ $# -ge 4 ]; do
        address=${3/#https:\/\/huggingface.co/$endpoint}
        fetch "$2" "$address" "$4" || { echo "$2 could not be had from $address" >&2; failed=1; }
        shift 4
    done
fi
[ "$failed" = 0 ] || exit 1
echo "The models are in $folder"
touch "$stamp"
