#!/bin/sh
# Like the public image's: arguments are haproxy's, unless they name a program.
set -e
case "${1:-}" in
  "" | -*) set -- haproxy "$@" ;;
esac
exec "$@"
