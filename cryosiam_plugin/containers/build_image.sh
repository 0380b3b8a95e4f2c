#!/bin/sh
# Builds the Docker (OCI) image of the engine that this package brings:
#   bash build_image.sh NAME[:TAG] [OPTION OF docker build...]
# For instance with --build-arg TORCH=cpu. It takes docker, podman or buildah, the first that is
# there, or CRYOSIAM_DOCKER.
set -eu
case ${1:-} in
    '' | -*) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
name=$1
shift
cd "$(dirname -- "$0")/.."

program=${CRYOSIAM_DOCKER:-}
for candidate in docker podman buildah; do
    if [ -z "$program" ] && command -v "$candidate" >/dev/null; then program=$candidate; fi
done
if [ -z "$program" ]; then
    echo "None of docker, podman and buildah is in PATH: install one, or set CRYOSIAM_DOCKER." >&2
    exit 1
fi

. containers/source.sh
build=build
case $(basename -- "$program") in
    docker) export DOCKER_BUILDKIT=1 ;; # the Dockerfile mounts its sources
    buildah) build=bud ;;
esac
exec "$program" "$build" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$@" \
    -t "$name" -f containers/Dockerfile .
