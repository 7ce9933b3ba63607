#!/usr/bin/env bash
# Starts N processes on this machine that find each other over loopback, to debug a pod at home.
#
#   launch/local_processes.sh --config=configs/ldm.py:debug --workdir=runs/two
#   PROCESSES=4 DEVICES=2 launch/local_processes.sh --config=... --workdir=...
#
# Process 0 prints here; the others write to WORKDIR/logs. If one fails the others are stopped
# and its last lines are shown. SIGTERM and Ctrl-C reach all of them: they save and leave.
#
# Environment:
#   PROCESSES      how many (2)
#   DEVICES        virtual CPU devices of each (1)
#   JAX_PLATFORMS  cpu, or cuda for one GPU a process (cpu)
#   PORT           of the coordinator (a random one)
#   PYTHON         interpreter (python)
#   DRY_RUN        1 prints the commands instead of running them

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"
read_run_flags "$@"
cd -- "$here/.."

processes="${PROCESSES:-2}"
logs="$WORKDIR/logs"
port="${PORT:-$((20000 + RANDOM % 10000))}"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
case "$processes" in '' | *[!0-9]* | 0) die "PROCESSES=$processes: expected a number from 1 on" ;; esac
if [ "$JAX_PLATFORMS" = cpu ]; then
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=${DEVICES:-1}"
fi

# Sets `command` to what starts process $1.
command_of() {
  command=(env "JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" "JAX_NUM_PROCESSES=$processes" "JAX_PROCESS_ID=$1")
  if [ "$JAX_PLATFORMS" != cpu ]; then command+=("CUDA_VISIBLE_DEVICES=$1"); fi
  command+=("${PYTHON:-python}" -m gen_jax.main "${@:2}")
}

if [ -n "${DRY_RUN:-}" ]; then
  for ((i = 0; i < processes; i++)); do
    command_of "$i" "$@"
    run_or_show "${command[@]}"
  done
  exit 0
fi

children=()
stop_all() {
  SIGNALLED=yes
  # Bash 3 takes an empty array for an unset one.
  kill -TERM ${children[@]+"${children[@]}"} 2>/dev/null || true
}
trap stop_all TERM INT
mkdir -p "$logs"
for ((i = 0; i < processes; i++)); do
  command_of "$i" "$@"
  if [ "$i" -eq 0 ]; then
    "${command[@]}" &
  else
    "${command[@]}" >"$logs/process_$i.log" 2>&1 &
  fi
  children+=($!)
done

# The first that fails stops the rest: they would wait minutes for it.
failed='' code=0 left="$processes"
ended=()
while [ "$left" -gt 0 ]; do
  for ((i = 0; i < processes; i++)); do
    if [ -n "${ended[i]:-}" ] || kill -0 "${children[i]}" 2>/dev/null; then continue; fi
    ended[i]=yes left=$((left - 1)) status=0
    wait_for "${children[i]}" || status=$?
    if [ "$status" -ne 0 ] && [ -z "$failed" ]; then
      failed=$i code=$status
      stop_all
    fi
  done
  if [ "$left" -gt 0 ]; then sleep 0.2 || true; fi
done
if [ -n "$failed" ]; then
  echo "process $failed ended with status $code" >&2
  if [ "$failed" -ne 0 ]; then tail -n 20 "$logs/process_$failed.log" >&2; fi
fi
exit "$code"
