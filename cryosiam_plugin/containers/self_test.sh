#!/bin/sh
# Whether the image works: its own diagnosis, then a simulated tomogram denoised on the CPU by a
# model that comes with the engine.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export CRYOSIAM_CACHE="$work/cache"
cryosiam-engine doctor --device cpu
cryosiam-engine simulate --output simulated --shape 32 64 64 --membranes 1 --species ribosome=2
model=$(cryosiam-engine models path demo-denoising)
cat >denoising.yaml <<YAML
data_folder: simulated/tomograms
prediction_folder: denoised
trained_model: $model
YAML
cryosiam-engine denoise_predict --config_file denoising.yaml --device cpu
grep -q '"state": *"done"' denoised/status/*.json
echo "The image works."
