#!/usr/bin/env bash
# The simulated platform on one host: start it, look at it, break it, remove it.
# Safe to repeat: a container that is as it should be is left alone. Prints what it changed.
set -euo pipefail

usage() {
  cat <<'TXT'
simulated-platform up                                    start what is missing (SIMULATOR_IMAGE, FERRETDB_IMAGE)
simulated-platform down                                  remove all of it, data and logs included
simulated-platform app-up PROJECT BRANCH PORT [plain]    deploy one more app (plain: no /metrics)
simulated-platform app-down PROJECT BRANCH               remove an app on purpose: container and allocation
simulated-platform control SERVICE [ACTION [key=value …]]
TXT
}

root=${SIMULATOR_ROOT:-}
logs=$root/var/log state=$root/var/lib/simulator run=$root/run/simulator
domain=${SIMULATOR_DOMAIN:-silverhawk77.click}
apps=${SIMULATOR_APPS:-shop:main:8101 shop:feature-cart:8102 blog:main:8103 docs:main:8104:plain}
declare -A known
image='' image_ids=''

fail() { echo "simulated-platform: $*" >&2; exit 1; }

survey() { # IMAGE…: what runs, and what the images are by now
  local name spec status
  image_ids=$(docker image inspect -f '{{.Id}}' "$@") || fail "these images must be here already: $*"
  while IFS='|' read -r name spec status; do known[$name]="$spec|$status"; done \
    < <(docker ps -a --format '{{.Names}}|{{.Label "simulator.spec"}}|{{.State}}')
}

# ensure NAME ROLE ARGUMENT… : one container, made of these arguments of `docker run`
ensure() {
  local name=$1 role=$2 spec
  shift 2
  spec=$(printf '%s\0' "$role" "$image_ids" "$@" | sha256sum | cut -c 1-16)
  case ${known[$name]-none} in
    "$spec|running" | "$spec|restarting") return ;;
    none) ;;
    "|"*) fail "a container named $name is there, and it is not ours" ;;
    *) docker rm -f "$name" > /dev/null ;;
  esac
  rm -f "$run/$name.sock"
  docker run -d --name "$name" --restart unless-stopped --log-opt max-size=5m \
    --label "simulator.role=$role" --label "simulator.spec=$spec" "$@" > /dev/null
  await "$name"
  echo "started $name"
}

await() {
  local turn
  for ((turn = 0; turn < 300; turn++)); do
    if [[ $1 == mongodb ]]; then
      if (exec 3<> /dev/tcp/127.0.0.1/27017) 2> /dev/null; then return; fi
    elif [[ -S $run/$1.sock ]]; then
      return
    fi
    sleep 0.1
  done
  docker logs --tail 5 "$1" >&2 || true
  fail "$1 did not come up within 30 s"
}

service() {
  local name=$1
  shift
  mkdir -p "$logs/$name"
  ensure "$name" service --network host -e PYTHONPATH=/opt \
    -v "$logs/$name:/var/log/$name" -v "$state:/var/lib/simulator" -v "$run:/run/simulator" \
    --entrypoint python3 "$image" -m simulator "$name" --state-dir /var/lib/simulator --run-dir /run/simulator \
    --listen "${SIMULATOR_LISTEN:-127.0.0.1}" --activity "${SIMULATOR_ACTIVITY:-0}" "$@"
}

app() { # PROJECT BRANCH PORT [plain]
  local name=$1-$2-deploy options=()
  [[ ${4-} != plain ]] || options=(--no-metrics)
  ensure "$name" app -p "127.0.0.1:$3:3000" -e PYTHONPATH=/opt \
    --label tunnel.enable=true --label "tunnel.hostname=$1-$2.$domain" \
    --label "tunnel.port=$3" --label tunnel.path=/ \
    -v "$state:/var/lib/simulator" -v "$run:/run/simulator" \
    --entrypoint python3 "$image" -m simulator app --name "$name" --listen 0.0.0.0 --port 3000 \
    --state-dir /var/lib/simulator --run-dir /run/simulator --rps "${SIMULATOR_RPS:-1}" "${options[@]}"
}

up() {
  local spec project branch port kind build=${SIMULATOR_BUILD:-old} seeds=() tunnels=() types=() metrics=() jobs=()
  image=${SIMULATOR_IMAGE:?which image}
  for spec in $apps; do
    IFS=: read -r project branch port kind <<< "$spec"
    seeds+=(--allocation "$project:$branch:$port")
    tunnels+=(--tunnel "$project-$branch-deploy=$project-$branch.$domain")
  done
  # The hand-written build forgets the Content-Type: Express then says text/html.
  [[ $build != old ]] || types=(--content-type 'text/html; charset=utf-8')
  [[ ${SIMULATOR_TUNNEL_METRICS:-false} != true ]] || metrics=(--metrics)
  mkdir -p "$state" "$run"
  survey "$image" "${FERRETDB_IMAGE:?which image}"
  service port-manager --build "${build/newest/new}" "${seeds[@]}" & jobs+=($!)
  service deployment-api --build "$build" "${types[@]}" & jobs+=($!)
  service tunnel-manager "${tunnels[@]}" "${metrics[@]}" & jobs+=($!)
  ensure mongodb database --network host --user 0:0 -v simulator-mongodb:/data -w /data \
    -e FERRETDB_HANDLER=sqlite -e FERRETDB_SQLITE_URL=file:/data/ -e FERRETDB_STATE_DIR=/data \
    -e FERRETDB_LISTEN_ADDR=127.0.0.1:27017 -e FERRETDB_DEBUG_ADDR=- -e FERRETDB_TELEMETRY=disable \
    "$FERRETDB_IMAGE" & jobs+=($!)
  for spec in $apps; do
    IFS=: read -r project branch port kind <<< "$spec"
    app "$project" "$branch" "$port" "$kind" & jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}

app_up() {
  image=$(docker inspect -f '{{.Config.Image}}' port-manager)
  control port-manager allocate "project=$1" "branch=$2" "port=$3" | grep -q "\"port\": $3" || fail "port $3 is taken"
  survey "$image" "$(docker inspect -f '{{.Config.Image}}' mongodb)"
  app "$@"
  control tunnel-manager tunnel "container=$1-$2-deploy" "hostname=$1-$2.$domain" > /dev/null
}

app_down() {
  docker rm -f "$1-$2-deploy" > /dev/null
  rm -f "$run/$1-$2-deploy.sock" "$state/$1-$2-deploy.crash"
  control port-manager release "project=$1" "branch=$2" > /dev/null
  control tunnel-manager tunnel "container=$1-$2-deploy" present=false > /dev/null
  echo "removed $1-$2-deploy"
}

# The client runs in any container of the simulator that is not the one to break.
control() {
  local helper
  helper=$(docker ps --filter label=simulator.role=service --filter status=running --format '{{.Names}}' \
    | grep -vx "$1" | head -n 1) || fail "none of the platform's services runs"
  docker exec "$helper" python3 -m simulator control "$@"
}

down() {
  local names
  names=$(docker ps -aq --filter label=simulator.spec)
  if [[ -n $names ]]; then
    # shellcheck disable=SC2086
    docker rm -f $names > /dev/null
    echo 'removed the containers'
  fi
  if docker volume inspect simulator-mongodb > /dev/null 2>&1; then docker volume rm simulator-mongodb; fi
  rm -rf "$state" "$run" "$logs/port-manager" "$logs/deployment-api" "$logs/tunnel-manager"
}

verb=${1-}
shift || true
case $verb in
  up | down) "$verb" ;;
  app-up) (($# == 3 || $# == 4)) || { usage >&2; exit 2; }; app_up "$@" ;;
  app-down) (($# == 2)) || { usage >&2; exit 2; }; app_down "$@" ;;
  control) (($# >= 1)) || { usage >&2; exit 2; }; control "$@" ;;
  *) usage >&2; exit 2 ;;
esac
