#!/usr/bin/env bash
# `make setup`: finds a Python, lets setup.py do the rest.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

if ! python=$("$here/python.sh" 2>/dev/null) && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "setup: no usable Python yet, installing python3-venv (about 30 s)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
fi
python=${python:-$("$here/python.sh")}
exec "$python" "$here/setup.py" "$@"
