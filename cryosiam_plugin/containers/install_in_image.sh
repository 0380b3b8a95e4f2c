#!/bin/sh
# The steps of both recipes, apptainer.def and Dockerfile, run inside the image that is made:
#   install_in_image.sh python
#   install_in_image.sh packages REQUIREMENTS [PIP OPTION...]
#   install_in_image.sh engine SOURCE REVISION
set -eu
prefix=/opt/cryosiam
pip="$prefix/bin/python -m pip --disable-pip-version-check --no-cache-dir --no-input"

add_python() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        # In a name space with a single user there is no other one to download as.
        apt="apt-get -q -o APT::Sandbox::User=root"
        $apt update
        $apt install -y --no-install-recommends ca-certificates python3 python3-venv
        rm -rf /var/lib/apt/lists/*
    fi
    python3 -c 'import sys
if sys.version_info[:2] != (3, 11):
    sys.exit(f"The packages are pinned for Python 3.11; this base has {sys.version}. Take Debian 12.")'
    python3 -m venv "$prefix"
}

# Whether options of pip say where packages come from.
name_a_source() {
    for option; do
        case $option in
            --no-index | -i* | --index-url* | --extra-index-url*) return 0 ;;
        esac
    done
    return 1
}

# Every file is compared with its SHA-256; what is not pinned is not installed.
add_packages() {
    requirements=$1
    shift
    # PyTorch without CUDA is in its own index only.
    if grep -q '^torch==[^ ]*+cpu ' "$requirements" && ! name_a_source "$@"; then
        set -- --extra-index-url https://download.pytorch.org/whl/cpu "$@"
    fi
    $pip install --require-hashes --no-deps "$@" -r "$requirements"
    $pip check
    # The packages' own tests are a tenth of the image.
    find "$prefix/lib" -type d -name tests -prune -exec rm -rf {} +
}

add_engine() {
    # setuptools writes into the folder that it builds from, which may be read-only.
    copy=$(mktemp -d)
    cp -R "$1" "$copy/engine"
    $pip install --no-index --no-deps --no-build-isolation "$copy/engine"
    rm -rf "$copy"
    mkdir -p "$prefix/commands"
    install -m 755 "$(dirname "$0")/cryosiam-engine.sh" "$prefix/commands/cryosiam-engine"
    "$prefix/bin/python" - "$2" >/etc/cryosiam-image.json <<'PYTHON'
import datetime
import importlib.metadata
import json
import sys

print(json.dumps({
    "version": importlib.metadata.version("cryosiam-engine"),
    "revision": sys.argv[1],
    "built": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "torch": importlib.metadata.version("torch"),
}, indent=2))
PYTHON
}

step=$1
shift
"add_$step" "$@"
