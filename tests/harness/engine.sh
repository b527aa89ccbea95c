#!/usr/bin/env bash
# `make engine`: leaves a Docker engine alone that answers; otherwise installs and starts one (Debian, Ubuntu).
# Without root it can only say what is missing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"
WAIT_SECONDS=60
started= # dockerd's process, where this script started it
LOG=$DEPLOYMENT_MONITORING_CACHE/dockerd.log

die() {
  echo "engine: $*" >&2
  exit 1
}

has() { command -v "$1" >/dev/null; }

# Of the journal, which Promtail reads.
# shellcheck disable=SC2317
has_headers() { [[ -e /usr/include/systemd/sd-journal.h ]]; }

# shellcheck disable=SC2317
answers() { docker info >/dev/null 2>&1; }

systemd_runs() { [[ -d /run/systemd/system ]]; }

missing_packages() { # of Debian; the last two make the test images
  has dockerd || answers || echo docker.io iptables
  has mmdebstrap || echo mmdebstrap
  has_headers || echo libsystemd-dev
}

install() {
  echo "engine: installing $*, about 60 s"
  apt-get update -qq || die "'apt-get update' failed: see above"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
    die "'apt-get install $*' failed: see above"
}

start_by_hand() {
  mkdir -p "$DEPLOYMENT_MONITORING_CACHE"
  # In a session of its own, or it would end with make.
  setsid nohup dockerd >"$LOG" 2>&1 </dev/null &
  started=$!
}

wait_until_it_answers() {
  local deadline=$((SECONDS + WAIT_SECONDS))
  until answers; do
    ((SECONDS < deadline)) || return 1
    if [[ -n $started ]] && ! kill -0 "$started" 2>/dev/null; then
      die "dockerd ended by itself: $(tail -1 "$LOG")"
    fi
    sleep 0.5
  done
}

main() {
  local packages
  read -ra packages <<<"$(missing_packages | xargs)"
  if ! answers && [[ $(id -u) != 0 ]]; then
    die "Docker does not answer ($(docker info 2>&1 | tail -1)), and only root can start it: start it, or run as root"
  fi
  if ! has apt-get; then
    answers || has dockerd ||
      die "no Docker engine, and this is neither Debian nor Ubuntu: install Docker, then run this again"
  elif [[ ${#packages[@]} != 0 && $(id -u) == 0 ]]; then
    install "${packages[@]}"
  fi
  if ! answers; then
    if systemd_runs; then
      systemctl start docker || die "'systemctl start docker' failed: see 'journalctl -u docker'"
    else
      echo "engine: starting dockerd in the background, log $LOG"
      start_by_hand
    fi
    wait_until_it_answers || die "Docker did not answer within $WAIT_SECONDS s: see $LOG or 'journalctl -u docker'"
  fi
  echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
}

# Sourced by its tests, which put stand-ins in the place of single functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  main
fi
