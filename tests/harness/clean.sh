#!/usr/bin/env bash
# `make clean`: removes what interrupted tests of this checkout left: targets, logs and reports. Not the demo, and
# nothing of another checkout, whose tests may be running.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

list() { # list KIND FIELD [OPTION]: what the tests made, by that field
  docker "$1" ls --filter "label=monitoring-test-checkout=$CHECKOUT" "${@:3}" \
    --format "{{.$2}} {{.Label \"monitoring-test\"}}" | awk '$2 != "demo" {print $1}'
}

if docker info >/dev/null 2>&1; then
  list container ID --all | xargs --no-run-if-empty docker rm --force --volumes
  list volume Name | xargs --no-run-if-empty docker volume rm
  list network ID | xargs --no-run-if-empty docker network rm
fi
rm -rf "$CHECKOUT_STATE"
echo "clean: done; the cache with tools and images stays in $DEPLOYMENT_MONITORING_CACHE"
