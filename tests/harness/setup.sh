#!/usr/bin/env bash
# `make setup`: finds a Python, lets setup.py do the rest.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

python=$("$here/python.sh") || code=$?
if [[ ${code:-0} == 1 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "setup: installing the distribution's python3-venv, about 30 s"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
  python=$("$here/python.sh")
fi
[[ -n $python ]] || exit 1
exec "$python" "$here/setup.py" "$@"
