#!/bin/sh
# Like the public image's entry point: GF_<SECTION>_<KEY>__FILE names a file with the value; then the server.
set -e
for name in $(env | sed -n 's/^\(GF_[A-Z0-9_]*\)__FILE=.*/\1/p'); do
  eval "file=\$${name}__FILE"
  export "$name=$(cat "$file")"
  unset "${name}__FILE"
done
exec /usr/share/grafana/bin/grafana server \
  --homepath=/usr/share/grafana \
  --config=/etc/grafana/grafana.ini \
  "$@" \
  cfg:default.paths.data=/var/lib/grafana \
  cfg:default.paths.logs=/var/log/grafana \
  cfg:default.paths.plugins=/var/lib/grafana/plugins \
  cfg:default.paths.provisioning=/etc/grafana/provisioning \
  cfg:default.log.mode=console
