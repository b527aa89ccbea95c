#!/usr/bin/env bash
# Prints the path of a Python that the chosen ansible-core runs on: from PATH, else from pyenv. 2.19 wants 3.11-3.13,
# 2.20 and 2.21 want 3.12 or newer. The newest is taken; for an older line the oldest, so that both ends are tested.
set -euo pipefail

case "${ANSIBLE_CORE:-}" in
  "") versions=(3.13 3.12 3.11) ;;
  2.19) versions=(3.11 3.12 3.13) ;;
  2.20) versions=(3.12 3.13) ;;
  2.21) versions=(3.13 3.12) ;;
  *)
    echo "ANSIBLE_CORE=$ANSIBLE_CORE is not known here: choose 2.19, 2.20 or 2.21" >&2
    exit 2
    ;;
esac

# Prints the real file of a Python of that version: a pyenv shim may only say that it is none, and its answer
# changes with the folder one stands in. It must be able to make virtual environments.
real_python() {
  "$1" -c "import ensurepip, os, sys, venv
if '%d.%d' % sys.version_info[:2] != '$2': sys.exit(1)
print(os.path.realpath(sys.executable))" 2>/dev/null
}

for version in "${versions[@]}"; do
  for candidate in "$(command -v "python$version" || true)" "$(command -v python3 || true)" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python3; do
    if [[ -x $candidate ]] && real_python "$candidate" "$version"; then exit 0; fi
  done
done

echo "no Python of ${versions[*]} with venv and ensurepip found (PATH, pyenv): install one, on Debian and" \
  "Ubuntu: apt-get install python3-venv" >&2
exit 1
