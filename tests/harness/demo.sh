#!/usr/bin/env bash
# `make demo`, `make demo-down`: the whole stack on a throw-away target, its ports on this machine's loopback.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"
STATE=$DEPLOYMENT_MONITORING_CACHE/demo
PORTS=(3000 9090 9093 3100 9100 8080 9216 9115 9080 9810 3001 3004 3005)
TARGET=monitoring-demo

die() {
  echo "demo: $*" >&2
  exit 1
}

step() { echo "demo: [$SECONDS s] $*"; }

is_up() { [[ $(docker container inspect --format '{{.State.Running}}' "$TARGET" 2>/dev/null) == true ]]; }

refuse_taken_ports() {
  local port taken=()
  for port in "${PORTS[@]}"; do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then taken+=("$port"); fi
  done
  [[ ${#taken[@]} == 0 ]] || die "port ${taken[*]} on 127.0.0.1 is taken by another program: stop it first (ss -ltnp)"
}

make_password() {
  mkdir -p "$STATE"
  [[ -s $STATE/grafana_admin_password ]] && return
  (
    umask 077
    python -c 'import secrets; print(secrets.token_urlsafe(18))' >"$STATE/grafana_admin_password"
    # A file, so that the password stands in no process list.
    printf 'grafana_admin_password: "%s"\n' "$(<"$STATE/grafana_admin_password")" >"$STATE/vars.yml"
  )
}

up() {
  local images=$DEPLOYMENT_MONITORING_CACHE/images/vars.yml plays=()
  make_password
  if is_up; then
    step "the target runs already: bringing the simulated platform up to date"
    plays=(--limit demo)
  else
    refuse_taken_ports
    step "creating the target and the simulated platform, about 30 s"
  fi
  ansible-playbook -i inventory/local -e "@$images" -e "{\"demo_ports\": [$(IFS=, && echo "${PORTS[*]}")]}" \
    "${plays[@]}" tests/target/demo.yml
  step "deploying the site, about 90 s"
  ansible-playbook -i inventory/local -e "@$images" -e "@$STATE/vars.yml" site.yml
  cat <<EOF

The stack is up ($SECONDS s):
  Grafana            http://127.0.0.1:3000   user admin, password: cat $STATE/grafana_admin_password
  Prometheus         http://127.0.0.1:9090
  Alertmanager       http://127.0.0.1:9093
  Loki               http://127.0.0.1:3100/ready
  exporters          http://127.0.0.1:9100/metrics (node)  :8080 (cAdvisor)  :9216 (MongoDB)  :9115 (blackbox)
  log collector      http://127.0.0.1:9080/targets
  app discovery      http://127.0.0.1:9810/targets/health
  simulated platform http://127.0.0.1:3001 (tunnels)  :3004 (deployments)  :3005 (ports)
  the target itself  docker exec -it $TARGET bash
Again after a change: make demo. Away with it: make demo-down
EOF
}

down() {
  local label=monitoring-test=demo
  docker ps --all --quiet --filter "label=$label" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
  docker volume ls --quiet --filter "label=$label" | xargs --no-run-if-empty docker volume rm >/dev/null
  docker network ls --quiet --filter "label=$label" | xargs --no-run-if-empty docker network rm >/dev/null
  rm -rf "$STATE"
  echo "demo: gone, with its containers, volumes and password"
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  *) die "say up or down" ;;
esac
