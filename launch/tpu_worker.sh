#!/usr/bin/env bash
# Runs launch/run.sh on one worker of a TPU VM pod; launch/tpu_vm.sh starts it on all of them.
#
#   launch/tpu_worker.sh --config=configs/ldm.py --workdir=/shared/runs/ldm
#
# The metadata server knows this worker's number and the addresses of the others; from these come
# JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
#
# Environment:
#   PORT     of the coordinator (8482)
#   PYTHON   interpreter (python)
#   DRY_RUN  1 prints the command instead of running it

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"

attribute() {
  curl -sf -H 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1" ||
    die "the metadata server does not know $1: is this a TPU VM?"
}

number="$(attribute agent-worker-number)"
# Comma-separated; each is an address, or NAME:ID:ADDRESS on older runtimes.
IFS=, read -r -a endpoints <<<"$(attribute worker-network-endpoints)"
if [ "${#endpoints[@]}" -gt 1 ]; then
  export JAX_COORDINATOR_ADDRESS="${endpoints[0]##*:}:${PORT:-8482}"
  export JAX_NUM_PROCESSES="${#endpoints[@]}"
  export JAX_PROCESS_ID="$number"
fi
exec "$here/run.sh" "$@"
