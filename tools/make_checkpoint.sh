#!/usr/bin/env bash
# Regenerates checkpoints/default, one policy for every skill, from nothing: demonstrations, noisy failures, vision warm-up,
# training, evaluation. At most 100 demonstrations per sentence. Moving one object near another has more of them: which of
# two named objects is meant is the hardest to see. After a stop run it again: all but the evaluation resumes.
# Usage: tools/make_checkpoint.sh [WORK_FOLDER [DEVICE]]     (default: outputs/skills cpu)
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./env.sh
work=${1:-outputs/skills}
device=${2:-cpu}
mkdir -p "$work"
export OMP_NUM_THREADS=1
# Blocks that PyTorch frees on the CPU are used again instead of going back to the system.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000
qt-ros collect --out "$work/demos" --source demonstration --skill all --episodes 3000 --seed 0 --workers 2 --paraphrases
qt-ros collect --out "$work/near" --source demonstration --skill move_near --episodes 1000 --seed 600000 --workers 2 --paraphrases
qt-ros collect --out "$work/noise" --source noise --skill all --episodes 1000 --seed 500000 --workers 2 --paraphrases   # mostly failures
qt-ros pretrain --store "$work/demos" --store "$work/near" --out "$work/warm" --steps 12000 --threads 1 --device "$device"
# Mixed precision is quick where processor or GPU computes in bfloat16; elsewhere leave it out.
qt-ros train --store "$work/demos" --store "$work/near" --store "$work/noise" --init "$work/warm/checkpoint" --out "$work/train" --config skills --set autocast=true --device "$device"
# Tuning scenes: whether this checkpoint or another, with other settings, is the one to keep is decided by them alone.
qt-ros evaluate "$work/train/checkpoint" --skill all --episodes 700 --seed 1000000 --workers 2
qt-ros evaluate "$work/train/checkpoint" --skill all --episodes 700 --seed 1000000 --workers 2 --held-out
rm -rf checkpoints/default
mkdir -p checkpoints
cp -r "$work/train/checkpoint" checkpoints/default
echo "checkpoints/default is made from $work; by the numbers above keep it, or restore the one that was there"
# Test scenes, last: numbers to report. Nothing is decided by them.
echo "For reporting only:"
qt-ros evaluate "$work/train/checkpoint" --skill all --episodes 700 --seed 2000000 --workers 2
qt-ros evaluate "$work/train/checkpoint" --skill all --episodes 700 --seed 2000000 --workers 2 --held-out
