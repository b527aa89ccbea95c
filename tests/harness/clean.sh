#!/usr/bin/env bash
# `make clean`: removes targets that interrupted tests left, and this checkout's logs and reports. Not the demo.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

list() { # list KIND FIELD [OPTION]: what tests/target/create.yml made, by that field
  docker "$1" ls --filter label=monitoring-test --format "{{.$2}} {{.Label \"monitoring-test\"}}" "${@:3}" |
    awk '$2 != "demo" {print $1}'
}

if docker info >/dev/null 2>&1; then
  list container ID --all | xargs --no-run-if-empty docker rm --force --volumes
  list volume Name | xargs --no-run-if-empty docker volume rm
  list network ID | xargs --no-run-if-empty docker network rm
  # tests/images/test_images.py has no target, only containers on a network of its own.
  docker container ls --all --quiet --filter label=monitoring-test-images |
    xargs --no-run-if-empty docker rm --force --volumes
  docker network ls --quiet --filter label=monitoring-test-images | xargs --no-run-if-empty docker network rm
fi
rm -rf "$CHECKOUT_STATE"
echo "clean: done; the cache with tools and images stays in $DEPLOYMENT_MONITORING_CACHE"
