#!/usr/bin/env bash
# Makes a base for the container tests, from this computer's own Debian packages, since a test must
# not need an image registry: a minimal Debian 12 with Python in FOLDER, and FOLDER.tar.
#   container_base.sh FOLDER
# Installs debootstrap where it is missing. Exit code 3: not root, or not on Debian.
set -euo pipefail
folder=$1
if [ -e "$folder.tar" ]; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "The base is made on Debian, as root." >&2
    exit 3
fi
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
# The server that this computer's own sources name.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
server=$(apt-get update --print-uris | sed -n "s#^'\(.*\)/dists/$codename/InRelease'.*#\1#p" | head -n 1)
rm -rf "$folder"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
    "$folder" "$server" >"$folder.log" 2>&1 || { tail -n 20 "$folder.log" >&2; exit 1; }
# A build in a name space cannot copy devices; it has its own.
find "$folder/dev" -mindepth 1 \( -type b -o -type c \) -delete
rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
tar --numeric-owner -C "$folder" -cf "$folder.tar.part" .
mv "$folder.tar.part" "$folder.tar"
