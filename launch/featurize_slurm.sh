#!/usr/bin/env bash
# Computes features on a SLURM cluster: a job array whose tasks share the shards among themselves.
#
#   sbatch --array=0-15 launch/featurize_slurm.sh --data=/shared/data/faces \
#       --encoder=dinov2-large:/shared/models/dinov2-large --out=/shared/features/faces
#
# Submit from the repository. Flags before the script's name are sbatch's and overrule the
# #SBATCH lines below; those after it are featurize's. Tasks need not run at the same time: each
# makes its own shards, and what was preempted or failed is made by submitting the same line again,
# with an array of any length. The last task to finish writes features.json.
#
# Environment:
#   REPO      the repository on the compute nodes (where sbatch was called)
#   PYTHON    interpreter (REPO/.venv/bin/python, or else python)
#   JAX_COMPILATION_CACHE_DIR  compiled programs, on storage that all nodes share
#   DRY_RUN   1 prints the command instead of running it: DRY_RUN=1 bash launch/featurize_slurm.sh ...

#SBATCH --job-name=featurize
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out

set -euo pipefail
repo="${REPO:-${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}}"
# sbatch runs a copy of this file from its spool folder: look beside the repository instead.
# shellcheck source=launch/common.sh
. "$repo/launch/common.sh" || exit 2
usage_if_asked "$@"
cd -- "$repo"
[ -n "${SLURM_ARRAY_TASK_ID:-}${DRY_RUN:-}" ] || die "submit this with sbatch --array=...; see --help"

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  if [ -x .venv/bin/python ]; then PYTHON="$PWD/.venv/bin/python"; fi
fi
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/gen_jax/xla}"

# featurize finds its place in the array by itself.
PYTHONUNBUFFERED=1 run_or_show "$PYTHON" -m gen_jax.featurize "$@"
