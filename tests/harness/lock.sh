#!/usr/bin/env bash
# `make lock`: pins everything that tests/requirements/tools.in brings along, once per ansible-core line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"

# newest release of each line : oldest Python it runs on
for core in 2.19.14:3.11 2.20.10:3.12 2.21.5:3.12; do
  release=${core%:*}
  line=${release%.*}
  echo "lock: ansible-core $line"
  { echo "ansible-core==$release" && cat tools.in; } |
    uv pip compile --quiet --universal --python-version "${core#*:}" --no-annotate --no-header - |
    { echo "# Written by 'make lock' from tools.in." && cat; } >"ansible-core-$line.txt.new"
  mv "ansible-core-$line.txt.new" "ansible-core-$line.txt"
done
