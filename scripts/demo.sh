#!/usr/bin/env bash
# The whole workflow on built-in data: sets up .venv, then simulate, denoise, mask, segment, pick.
# Options go to `cryosiam-engine demo` (--output FOLDER, --device cpu|cuda).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" ""
exec cryosiam-engine demo "$@"
