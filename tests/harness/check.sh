#!/usr/bin/env bash
# Starts check.py: before the tools are there, so with the Python that they will be installed for.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"
cd "$CHECKOUT"
# setup.sh installs a Python where none is and it can, else says what is missing.
if ! python=$(tests/harness/python.sh 2>/dev/null); then
  tests/harness/setup.sh
  python=$(tests/harness/python.sh)
fi
exec "$python" tests/harness/check.py "$@"
