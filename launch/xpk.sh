#!/usr/bin/env bash
# Trains on one TPU slice of a GKE cluster that xpk looks after.
#
#   export CLUSTER=NAME IMAGE=REGION-docker.pkg.dev/PROJECT/REPO/gen_jax:tpu
#   WORKLOAD=ldm TPU_TYPE=v6e-16 STORAGE=shared \
#     launch/xpk.sh --config=configs/ldm.py --workdir=/mnt/shared/runs/ldm
#
# The image comes from launch/Dockerfile with ACCELERATOR=tpu and USER_ID=0. GKE tells each host
# its place in the slice. After a preemption xpk restarts the workload, and the run resumes.
#
# Environment:
#   CLUSTER       xpk cluster
#   IMAGE         container image
#   WORKLOAD      name of the workload (gen-jax)
#   TPU_TYPE      slice (v6e-16)
#   STORAGE       storage attached to the cluster with `xpk storage`, for the run directory
#   PROJECT ZONE  those of the cluster (gcloud's defaults)
#   MAX_RESTARTS  restarts after preemptions (50)
#   GRACE         seconds from SIGTERM to SIGKILL (300)
#   XPK           how xpk is called (xpk)
#   DRY_RUN       1 prints the command instead of running it

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"
read_run_flags "$@"
[ -n "${CLUSTER:-}" ] || die "CLUSTER is not set: the xpk cluster to run on; see --help"
[ -n "${IMAGE:-}" ] || die "IMAGE is not set: the container image to run; see --help"

# No --num-slices: the mesh is laid out over a single slice.
flags=(
  "--cluster=$CLUSTER"
  "--workload=${WORKLOAD:-gen-jax}"
  "--tpu-type=${TPU_TYPE:-v6e-16}"
  "--docker-image=$IMAGE"
  "--max-restarts=${MAX_RESTARTS:-50}"
  "--restart-on-exit-codes=$UNFINISHED"
  "--termination-grace-period-seconds=${GRACE:-300}"
  "--env=JAX_COMPILATION_CACHE_DIR=$JAX_COMPILATION_CACHE_DIR"
)
if [ -n "${STORAGE:-}" ]; then flags+=("--storage=$STORAGE"); fi
if [ -n "${PROJECT:-}" ]; then flags+=("--project=$PROJECT"); fi
if [ -n "${ZONE:-}" ]; then flags+=("--zone=$ZONE"); fi
# exec: xpk sends SIGTERM to the process that it started, which must be ours.
run_or_show "${XPK:-xpk}" workload create "${flags[@]}" \
  "--command=exec bash launch/run.sh $(quote "$@")"
