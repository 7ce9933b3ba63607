#!/usr/bin/env bash
# Runs `python -m gen_jax.main` on one host under a scheduler that restarts what fails.
#
#   launch/run.sh --config=configs/ldm.py --workdir=/shared/runs/ldm [--config.KEY=VALUE ...]
#
# main saves at SIGTERM and exits 0; a scheduler would take that for the end of the job. This
# passes SIGTERM on and exits 75 where the run stopped before it was finished (no done.json in
# the run directory), so that the scheduler starts the same command again, which resumes.
# Other exit codes are main's own: 0 finished, 2 a mistake in the command, others a crash.
# Relative paths start at the repository.
#
# Environment:
#   PYTHON                     interpreter (python)
#   JAX_COMPILATION_CACHE_DIR  compiled programs, shared by all hosts (beside the run directory)
#   DRY_RUN                    1 prints the command instead of running it

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"
read_run_flags "$@"
cd -- "$here/.."

command=("${PYTHON:-python}" -m gen_jax.main "$@")
if [ -n "${DRY_RUN:-}" ]; then
  env | grep '^JAX_' | sort | tr '\n' ' '
  run_or_show "${command[@]}"
  exit 0
fi

child='' terminated=''
# shellcheck disable=SC2329  # the trap calls it
on_term() {
  SIGNALLED=yes terminated=yes
  kill -TERM "$child" 2>/dev/null || true
}
trap on_term TERM
PYTHONUNBUFFERED=1 "${command[@]}" &
child=$!

code=0
wait_for "$child" || code=$?
# 143: SIGTERM came before there was anything to save.
if [ -n "$terminated" ] && [ "$code" -eq 143 ]; then code=0; fi
if [ "$code" -eq 0 ] && ! finished; then
  echo "not finished: the same command resumes $WORKDIR" >&2
  code=$UNFINISHED
fi
exit "$code"
