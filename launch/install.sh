#!/usr/bin/env bash
# Makes .venv in the checkout with Python 3.12 and the packages of constraints.txt.
#
#   launch/install.sh cuda13     # or cpu, tpu: the word in jax[...]
#
# By uv, because many machine images come with an older Python.
#
# Environment:
#   DRY_RUN  1 prints the commands instead of running them

set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/common.sh
. "$here/common.sh"
usage_if_asked "$@"
[ $# -eq 1 ] || die "name the accelerator: cpu, cuda13 or tpu"
cd -- "$here/.."

uv=(uv)
if ! command -v uv >/dev/null; then
  run_or_show python3 -m pip install --quiet --user --upgrade uv
  uv=(python3 -m uv)
fi
run_or_show "${uv[@]}" venv --quiet --allow-existing --python 3.12 .venv
run_or_show "${uv[@]}" pip install --quiet --python .venv/bin/python \
  -c constraints.txt -r requirements.txt "jax[$1]"
