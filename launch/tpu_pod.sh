#!/usr/bin/env bash
# Training on a Cloud TPU slice, one process a host: bash launch/tpu_pod.sh
#
# What to change: TPU, ZONE and PROJECT, the slice that `gcloud compute tpus tpu-vm
# create` made; CONFIG, WORKDIR, DATA and MODEL, on storage that every host mounts (a
# bucket by Cloud Storage FUSE, or Filestore); and the mesh, as many devices as the slice
# has chips. `insgenel train --compile-only --topology v5e:4x8` says beforehand whether
# a config fits.
#
# The command runs again after exit status 85 (stopped and saved, as before a
# preemption). Each host replaces its shell by Python, so that SIGTERM reaches it.
set -uo pipefail
TPU=${TPU:?set TPU to the name of the slice}
ZONE=${ZONE:?set ZONE, as europe-west4-b}
PROJECT=${PROJECT:?set PROJECT}
CONFIG=${CONFIG:-configs/generator_llama.py:7b}
WORKDIR=${WORKDIR:?set WORKDIR to a folder that every host mounts}
DATA=${DATA:?set DATA to the folder with kb, train and dev.jsonl}
MODEL=${MODEL:?set MODEL to the pretrained directory}
FSDP=${FSDP:-32}

on_every_host() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --project="$PROJECT" \
        --worker=all --command="$1"
}

train="python -m insgenel_jax.train --distributed=on --config=$CONFIG"
train+=" --workdir=$WORKDIR --set model.pretrained=$MODEL"
train+=" --set data.documents=$DATA/train --set data.kb=$DATA/kb"
train+=" --set data.dev=$DATA/dev.jsonl --set loop.fsdp=$FSDP"

on_every_host "pip install -q 'insgenel_jax[tpu]'" || exit 1
status=85
while [ "$status" -eq 85 ]; do
    on_every_host "exec $train"
    status=$?
done
exit "$status"
