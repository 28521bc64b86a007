#!/usr/bin/env bash
# Trains a checkpoint for picking alone: demonstrations, noisy failures, vision warm-up, training, evaluation.
# About 50,000 simulated steps and 20 minutes of training on one CPU core. After a stop run it again: all but the evaluation resumes.
# Usage: tools/make_picking_checkpoint.sh [WORK_FOLDER]     (default: outputs/picking)
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./env.sh
work=${1:-outputs/picking}
mkdir -p "$work"
export OMP_NUM_THREADS=1
# Blocks that PyTorch frees on the CPU are used again instead of going back to the system.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000
qt-ros collect --out "$work/demos" --source demonstration --episodes 2000 --seed 0 --workers 2
qt-ros collect --out "$work/noise" --source noise --episodes 1000 --seed 500000 --workers 2
qt-ros pretrain --store "$work/demos" --out "$work/warm" --steps 1500 --batch 64 --threads 1
qt-ros train --store "$work/demos" --store "$work/noise" --init "$work/warm/checkpoint" --out "$work/train" --config small
# Tuning scenes: whether this checkpoint or another, with other settings, is the one to keep is decided by them alone.
qt-ros evaluate "$work/train/checkpoint" --episodes 300 --seed 1000000 --workers 2
echo "$work/train/checkpoint is made: keep it or not by the numbers above; checkpoints/default is left as it is"
# Test scenes, last: numbers to report. Nothing is decided by them.
echo "For reporting only:"
qt-ros evaluate "$work/train/checkpoint" --episodes 300 --seed 2000000 --workers 2
