# Shared by the launchers: sourced by them, never run.
# shellcheck shell=bash

# What main leaves in the run directory once everything is trained and measured.
DONE_FILE=done.json
# EX_TEMPFAIL: stopped with everything saved, start the same command again.
# shellcheck disable=SC2034  # read by those who source this
UNFINISHED=75

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Prints the comment at the head of the script and exits, where -h or --help is among the arguments.
usage_if_asked() {
  local argument
  for argument in "$@"; do
    case "$argument" in
      -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    esac
  done
}

# Sets CONFIG and WORKDIR from --config and --workdir; ends with one line where either is missing.
read_run_flags() {
  CONFIG='' WORKDIR=''
  while [ $# -gt 0 ]; do
    case "$1" in
      --config=*) CONFIG="${1#*=}" ;;
      --workdir=*) WORKDIR="${1#*=}" ;;
      --config) CONFIG="${2:-}" ;;
      --workdir) WORKDIR="${2:-}" ;;
    esac
    shift
  done
  [ -n "$CONFIG" ] || die "--config is missing: name a recipe, such as --config=configs/ldm.py"
  [ -n "$WORKDIR" ] || die "--workdir is missing: name a folder for the run that every host can write to"
  # Compiled programs outlive a preemption. Only process 0 writes, so the folder must be shared.
  : "${JAX_COMPILATION_CACHE_DIR:=$(dirname -- "$WORKDIR")/.jax_cache}"
  export JAX_COMPILATION_CACHE_DIR
}

# The arguments as one line that a shell reads back.
quote() {
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

# Runs a command; with DRY_RUN set it prints the command instead.
run_or_show() {
  if [ -n "${DRY_RUN:-}" ]; then
    quote "$@"
    echo
  else
    "$@"
  fi
}

finished() {
  [ -e "$WORKDIR/$DONE_FILE" ]
}

# Waits for a child and returns its status. A trap that sets SIGNALLED does not cut this short.
wait_for() {
  local code
  while true; do
    SIGNALLED='' code=0
    wait "$1" || code=$?
    [ -n "$SIGNALLED" ] || return "$code"
  done
}
