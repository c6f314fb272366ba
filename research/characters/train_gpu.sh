#!/bin/bash
# Trains the base on one GPU in about eight minutes: train_gpu.sh WORK [PYTHON], from the repository's root.
# WORK holds art.zip (0.6 MB); all else is made there. A second call goes on where the first was cut off.
# The autoencoder is in the repository; with VAE_SECONDS, for instance 150, a new one is trained first.
set -e
work=$1
python=${2:-python}
cores=$(nproc)
export OMP_NUM_THREADS=1
if [ ! -e "$work/latents-0.pt" ]; then
    if [ -n "$VAE_SECONDS" ]; then
        "$python" -m research.characters.vae --work "$work" --device cuda --batch 64 --pool 4000 \
            --processes "$cores" --seconds "$VAE_SECONDS" --every 2000
    fi
    "$python" -m research.characters.latents --work "$work" --device cuda --count 30000 --processes $((cores / 2))
fi
"$python" -m research.characters.base --work "$work" --device cuda --batch 256 --workers $((cores / 3)) \
    --seconds "${BASE_SECONDS:-330}" --every 1000
"$python" -m research.characters.sheets --work "$work" --device cuda --random 60 --name base-60
"$python" -m research.characters.sheets --work "$work" --device cuda --name base
