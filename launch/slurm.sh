#!/usr/bin/env bash
# Trains on a SLURM cluster, one process a GPU.
#
#   sbatch --nodes=4 launch/slurm.sh --config=configs/ldm.py --workdir=/shared/runs/ldm
#   sbatch --nodes=1 --gres=gpu:2 --ntasks-per-node=2 launch/slurm.sh --config=... --workdir=...
#
# Submit from the repository. Flags before the script's name are sbatch's and overrule the
# #SBATCH lines below; those after it are main's. Five minutes before the time limit SLURM sends
# SIGTERM to the processes; they save, and the job goes back into the queue until the run is done.
#
# Environment:
#   REPO          the repository on the compute nodes (where sbatch was called)
#   PYTHON        interpreter (REPO/.venv/bin/python, or else python)
#   SRUN_FLAGS    further flags of srun (--gpu-bind=none)
#   MAX_RESTARTS  times that an unfinished job is put back into the queue (100)
#   JAX_COMPILATION_CACHE_DIR  compiled programs, on storage that all nodes share
#   DRY_RUN       1 prints the command instead of running it: DRY_RUN=1 bash launch/slurm.sh ...

#SBATCH --job-name=gen_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out

# GPUs. JAX sees SLURM by itself: process i of a node drives GPU i of those it can see. So every
# task must see all GPUs of its node (--gres, or --gpu-bind=none), as many tasks as GPUs.
# --gpus-per-task, or a CUDA_VISIBLE_DEVICES set for each task, leaves task 1 with a single GPU
# called 0 in which JAX looks for number 1: "invalid device ordinal".
#
# Signals. --signal without "B:" reaches the processes themselves. With "B:" this script would
# have to pass it on, and srun turns a SIGTERM that it receives into SIGKILL for its tasks.

set -euo pipefail
repo="${REPO:-${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}}"
# sbatch runs a copy of this file from its spool folder: look beside the repository instead.
# shellcheck source=launch/common.sh
. "$repo/launch/common.sh" || exit 2
usage_if_asked "$@"
read_run_flags "$@"
cd -- "$repo"
[ -n "${SLURM_JOB_ID:-}${DRY_RUN:-}" ] || die "submit this with sbatch; see --help"

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  if [ -x .venv/bin/python ]; then PYTHON="$PWD/.venv/bin/python"; fi
fi

gpus="${SLURM_GPUS_ON_NODE:-0}" tasks="${SLURM_NTASKS_PER_NODE:-$gpus}"
if [ "$gpus" -gt 1 ] && [ "$tasks" -eq 1 ]; then
  # One process for the whole node: JAX would take the first GPU only.
  : "${JAX_LOCAL_DEVICE_IDS:=$(seq -s, 0 $((gpus - 1)))}"
  export JAX_LOCAL_DEVICE_IDS
elif [ "$gpus" -gt 0 ] && [ "$gpus" -ne "$tasks" ] && [ -z "${JAX_LOCAL_DEVICE_IDS:-}" ]; then
  die "$gpus GPUs but $tasks tasks on a node: ask for as many --ntasks-per-node as GPUs, or for one"
fi

read -r -a srun_flags <<<"${SRUN_FLAGS---gpu-bind=none}"
# Not every release of srun takes this over from sbatch by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then srun_flags+=("--cpus-per-task=$SLURM_CPUS_PER_TASK"); fi
command=(srun --kill-on-bad-exit=1 ${srun_flags[@]+"${srun_flags[@]}"}
  "$PYTHON" -m gen_jax.main "$@")
if [ -n "${DRY_RUN:-}" ]; then
  run_or_show "${command[@]}"
  exit 0
fi

# scancel and preemption signal this shell too: outlive the processes, which are saving.
trap 'SIGNALLED=yes' TERM
PYTHONUNBUFFERED=1 "${command[@]}" &
code=0
wait_for $! || code=$?
if [ "$code" -ne 0 ] || finished; then exit "$code"; fi

restarts="${SLURM_RESTART_COUNT:-0}"
if [ "$restarts" -ge "${MAX_RESTARTS:-100}" ]; then
  die "not finished after $restarts restarts; submit the same command to go on"
fi
# Incomplete: a job that was cancelled stays cancelled.
scontrol requeue Incomplete "$SLURM_JOB_ID" ||
  die "not finished, and SLURM does not requeue the job; submit the same command to go on"
echo "not finished: back into the queue, restart $((restarts + 1))"
