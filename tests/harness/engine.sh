#!/usr/bin/env bash
# `make engine`: leaves a Docker engine alone that answers; otherwise installs and starts one (Debian, Ubuntu).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"
WAIT_SECONDS=60
LOG=$DEPLOYMENT_MONITORING_CACHE/dockerd.log

die() {
  echo "engine: $*" >&2
  exit 1
}

answers() { docker info >/dev/null 2>&1; }

systemd_runs() { [[ -d /run/systemd/system ]]; }

install_packages() {
  command -v apt-get >/dev/null ||
    die "no Docker engine, and this is neither Debian nor Ubuntu: install Docker, then run this again"
  echo "engine: installing Docker and what the test images are made with, about 60 s"
  apt-get update -qq || die "'apt-get update' failed: see above"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    docker.io debootstrap mmdebstrap iptables ca-certificates >/dev/null || die "'apt-get install docker.io' failed"
}

start_by_hand() {
  mkdir -p "$DEPLOYMENT_MONITORING_CACHE"
  # In a session of its own, or it would end with make.
  setsid nohup dockerd >"$LOG" 2>&1 </dev/null &
}

wait_until_it_answers() {
  local deadline=$((SECONDS + WAIT_SECONDS))
  until answers; do
    ((SECONDS < deadline)) || return 1
    sleep 0.5
  done
}

missing_tools() { # what tests/images needs besides the engine
  local tool
  for tool in mmdebstrap debootstrap; do
    command -v "$tool" >/dev/null || echo "$tool"
  done
}

main() {
  if answers && [[ -z $(missing_tools) || $(id -u) != 0 ]]; then
    echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
    return
  fi
  [[ $(id -u) == 0 ]] ||
    die "Docker does not answer ($(docker info 2>&1 | tail -1)), and only root can start it: start it, or run as root"
  if ! command -v dockerd >/dev/null || [[ -n $(missing_tools) ]]; then
    install_packages
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
