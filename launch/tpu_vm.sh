#!/usr/bin/env bash
# Trains on a TPU VM, of one host or many, by gcloud.
#
#   export TPU=NAME ZONE=us-east5-b
#   launch/tpu_vm.sh create
#   launch/tpu_vm.sh copy        # this checkout and its packages, onto all workers
#   launch/tpu_vm.sh run --config=configs/ldm.py --workdir=/mnt/shared/runs/ldm
#   launch/tpu_vm.sh log         # follow worker 0 again after the connection was lost
#   launch/tpu_vm.sh stop        # SIGTERM to all workers: they save and leave
#   launch/tpu_vm.sh delete
#
# The run goes on when the connection ends. After a preemption: create, copy, the same run.
# The run directory must be on storage that all workers mount; SETUP can mount it. Many workers
# at once want `ssh-add ~/.ssh/google_compute_engine` first.
#
# Environment:
#   TPU               name of the TPU VM
#   ZONE              its zone
#   ACCELERATOR_TYPE  size (v6e-16)
#   VERSION           runtime (v2-alpha-tpuv6e; v5e: v2-alpha-tpuv5-lite, v5p: v2-alpha-tpuv5,
#                     v4: tpu-ubuntu2204-base)
#   SPOT              1 for spot capacity
#   SETUP             command that copy runs on each worker, such as a mount
#   REMOTE_DIR        the checkout on the workers, below the home folder (gen_jax)
#   DRY_RUN           1 prints the commands instead of running them

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"

action="${1:-}"
[ $# -eq 0 ] || shift
[ -n "${TPU:-}" ] || die "TPU is not set: the name of the TPU VM; see --help"
[ -n "${ZONE:-}" ] || die "ZONE is not set: the zone of the TPU VM, such as us-east5-b; see --help"
dir="${REMOTE_DIR:-gen_jax}"

tpu() {
  run_or_show gcloud compute tpus tpu-vm "$1" "${@:2}" "--zone=$ZONE"
}

on_workers() {
  tpu ssh "$TPU" "--worker=$1" "--command=$2"
}

create() {
  local flags=("--accelerator-type=${ACCELERATOR_TYPE:-v6e-16}" "--version=${VERSION:-v2-alpha-tpuv6e}")
  if [ -n "${SPOT:-}" ]; then flags+=(--spot); fi
  tpu create "$TPU" "${flags[@]}"
}

copy() {
  local folder
  folder="$(mktemp -d)"
  # shellcheck disable=SC2064  # the folder's name is known now
  trap "rm -rf -- $(quote "$folder")" EXIT
  # With .git, so that the manifest names the commit.
  run_or_show tar -czf "$folder/gen_jax.tgz" -C "$here/.." \
    --exclude='./runs' --exclude='./data' --exclude='./.venv*' --exclude='./.*cache' \
    --exclude='./.hypothesis' --exclude='__pycache__' --exclude='*.egg-info' .
  tpu scp "$folder/gen_jax.tgz" "$TPU:gen_jax.tgz" --worker=all
  on_workers all "mkdir -p $dir && tar -xzf gen_jax.tgz -C $dir && $dir/launch/install.sh tpu${SETUP:+ && $SETUP}"
}

run() {
  read_run_flags "$@"
  local start
  # The output goes to a file: a process that writes to a lost connection dies.
  start="PYTHON=.venv/bin/python nohup launch/tpu_worker.sh $(quote "$@") >>train.log 2>&1 </dev/null &"
  on_workers all "cd $dir && touch train.log && { $start } && pid=\$! && echo \$pid >train.pid && tail -n 0 --pid=\$pid -f train.log; wait \$pid"
}

case "$action" in
  create) create ;;
  copy) copy ;;
  run) run "$@" ;;
  log) on_workers 0 "tail -n 50 -f $dir/train.log" ;;
  stop) on_workers all "kill -TERM \$(cat $dir/train.pid)" ;;
  delete) tpu delete "$TPU" ;;
  *) die "'$action': expected create, copy, run, log, stop or delete; see --help" ;;
esac
