# shellcheck shell=bash
# Sourced. Where things are: the checkout, the cache, and what is kept for this checkout alone.
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
export DEPLOYMENT_MONITORING_CACHE=${DEPLOYMENT_MONITORING_CACHE:-$HOME/.cache/deployment-monitoring}
CHECKOUT_STATE=$DEPLOYMENT_MONITORING_CACHE/checkouts/$(printf %s "$CHECKOUT" | sha256sum | cut -c1-12)
export CHECKOUT CHECKOUT_STATE
