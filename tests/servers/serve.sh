# The part of pg-run, maria-run and mysql-run that is the same for every engine; sourced by them. Options, and what a server
# prints and reads:
#
#   --port N             0 (the default) picks a free one         --listen ADDRESS    127.0.0.1
#   --host LIST          names in the certificate and the token   --region REGION     eu-central-1
#   --rds-port LIST      ports a token may be signed for          (the engine's usual one and the port listened on)
#   --certificate NAME   the variant to begin with: see `certificates`
#   --key 'ID SECRET [SESSION_TOKEN|-|*]'   one more access key   --allow 'ID USER[,USER]'   which users that key may be
#   --set NAME=VALUE     a server setting, such as max_connections=10
#   --trust              no TLS and no password asked: a plain server to compare with
#   --stay               until a signal, not until standard input closes
#
# When the server answers, one line of JSON on standard output says where everything is. Standard input takes the line
# `certificate NAME`: answered with `certificate NAME` as soon as the server serves it, or with `error ...`. When
# standard input closes, the server is stopped and all it made is removed, so a test that is killed leaves nothing behind.
#
# RDSGATE_PG_ROOT, RDSGATE_MARIA_ROOT and RDSGATE_MYSQL_ROOT name a folder with another Debian in it: the server of that
# engine is then that system's own, and so is the compiler that builds what it loads. Only root can do that; see `matrix`.
#
# The engine's script sets, before it calls `serve "$@"`:
#   engine rds_default starttls stop     its name, the usual port, openssl's word for its kind of TLS, the signal that
#                                        ends it at once; and `account`, where it refuses to run as root: who it is then
#   locate        sets `version` and `client`, or dies            modules     builds what the server loads (`build`)
#   initialise D  makes an empty database cluster in folder D     template_sources  files whose change outdates the cluster
#   configure     writes the settings; sets `command`, the server's command line
#   answers       succeeds once the server lets clients in        reload      makes it read its certificate again
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${RDSGATE_SERVERS_CACHE:-$here/../../target/servers}
host=orders.c1abcdefghij.eu-central-1.rds.amazonaws.com region=eu-central-1
port=0 listen=127.0.0.1 rds_port='' certificate=good trust='' stay='' keys=() settings=() template_sources=()
server='' command=() version='' client='' account=''

die() { echo "${0##*/}: $*" >&2; exit 1; }
# 69 is what sysexits.h calls unavailable: it tells a caller this from every other failure.
missing() { (die "$1: run tests/servers/install (package $2)") || exit 69; }

options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --trust) trust=1; shift; continue ;;
      --stay) stay=1; shift; continue ;;
    esac
    [ $# -ge 2 ] || die "$1 wants a value"
    case $1 in
      --port) port=$2 ;;
      --listen) listen=$2 ;;
      --host) host=$2 ;;
      --region) region=$2 ;;
      --rds-port) rds_port=$2 ;;
      --certificate) certificate=$2 ;;
      --key) keys+=("key=$2") ;;
      --allow) keys+=("allow=$2") ;;
      --set) settings+=("$2") ;;
      *) die "unknown option $1" ;;
    esac
    shift 2
  done
}

choose_owner() {
  owner=$(id -un)
  as_owner() { "$@"; }
  if [ "$(id -u)" = 0 ] && [ -n "$account" ]; then
    owner=$account
    id "$owner" >/dev/null 2>&1 || die "no user $owner: run tests/servers/install"
    as_owner() { setpriv --reuid "$owner" --regid "$owner" --init-groups --reset-env -- "$@"; }
  fi
}
give() { if [ "$owner" != "$(id -un)" ]; then chown -R "$owner" "$@"; fi; }

# A scratch folder that the server's user may enter: /root/tmp or a private TMPDIR would not do.
choose_scratch() {
  local place
  for place in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    if scratch=$(mktemp -d "$place/rdsgate-$engine.XXXXXXXX" 2>/dev/null); then
      chmod 711 "$scratch"
      if as_owner test -x "$scratch/."; then break; fi
      rmdir "$scratch"
    fi
    scratch=''
  done
  [ -n "$scratch" ] || die "no scratch folder that user $owner may enter (TMPDIR, /tmp, /var/tmp)"
  trap finish EXIT
  trap 'exit 0' INT TERM HUP
  data=$scratch/data
  install -d -m 700 "$data" "$scratch/run"
}

finish() {
  trap '' INT TERM HUP
  if [ -n "$server" ]; then kill -s "$stop" "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$scratch"
}

# --- made once, kept under target/: what is compiled, the certificates, an initialised cluster -------------------------

build() { # build TARGET CC-ARGUMENTS...: compiled in src/ when older than its sources
  local target=$cache/bin/$1 source newest=''
  for source in "$here"/src/*; do if [ "$source" -nt "$target" ]; then newest=$source; fi; done
  if [ -n "$newest" ]; then
    mkdir -p "$cache/bin"
    command -v cc >/dev/null || missing "no C compiler" gcc
    (cd "$here/src" && cc -O2 -Wall -Werror -o "$target.new" "${@:2}")
    mv "$target.new" "$target"
  fi
  install -m 755 "$target" "$scratch/$1"
}

template() { # initialising a cluster for each server would cost seconds; unpacking one costs a fraction
  local source outdated='' work=$scratch/template
  archive=$cache/template-$engine-$version.tar
  [ -s "$archive" ] || outdated=1
  for source in "$0" ${template_sources[@]+"${template_sources[@]}"}; do if [ "$source" -nt "$archive" ]; then outdated=1; fi; done
  [ -n "$outdated" ] || return 0
  install -d -m 700 "$work"
  give "$work"
  initialise "$work"
  tar -S -C "$work" -cf "$archive.new" .
  mv "$archive.new" "$archive"
  rm -rf "$work"
}

prepare() {
  ca=$cache/ca
  leaves=$cache/leaves-$(printf '%s %s' "$host" "${KEYTYPE:-rsa2048}" | cksum | cut -d' ' -f1)
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
  template
  if [ -z "$trust" ]; then
    command -v openssl >/dev/null || missing "no openssl" openssl
    modules
    "$here/certificates" ca "$ca"
    "$here/certificates" leaves "$ca" "$leaves" "$host"
    ca=$(realpath "$ca")
  fi
  flock -u 9
  exec 9>&-
  tar -C "$data" -xf - --no-same-owner < "$archive"
}

# --- this server -----------------------------------------------------------------------------------------------------

present() { # present VARIANT: the files that the server reads at its next start or reload
  local chain=$leaves/$1.pem
  [ -s "$chain" ] || { echo "no certificate variant $1"; return 1; }
  install -m 600 "$leaves/server.key" "$data/server.key"
  install -m 644 "$chain" "$data/server.pem.new"
  mv "$data/server.pem.new" "$data/server.pem"
  give "$data/server.key" "$data/server.pem"
}
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null; }
served() { openssl s_client -starttls "$starttls" -connect "127.0.0.1:$port" </dev/null 2>/dev/null | fingerprint; }

rules() { # what a token is checked against
  local name
  {
    for name in ${host//,/ }; do echo "host=$name"; done
    for name in $(IFS=,; echo ${rds_port:-$rds_default,$port}); do echo "port=$name"; done
    echo "region=$region"
    case $host in *.dsql.* | *.dsql-*) echo service=dsql ;; esac
    echo "log=$scratch/auth.log"
    # A test makes this file; the server that verifies the token as the user who owns this folder removes it.
    echo "refuse_next=$scratch/refuse-next"
    cat "$here/keys.conf"
    printf '%s\n' ${keys[@]+"${keys[@]}"}
  } > "$scratch/iam.conf"
  # The server's user reads the one and appends to the other.
  chmod 644 "$scratch/iam.conf"
  : > "$scratch/auth.log"
  chmod 666 "$scratch/auth.log"
}

start() { # 0: it answers; 1: its port is taken; anything else ends us
  rules
  configure
  give "$data" "$scratch/run"
  : > "$scratch/server.log"
  # In the foreground of a child that dies with us: even SIGKILL of this script leaves no server running.
  # A simple command, so that $! is the server itself.
  local with=(setpriv --pdeathsig "$stop")
  if [ "$owner" != "$(id -un)" ]; then with+=(--reuid "$owner" --regid "$owner" --init-groups); fi
  "${with[@]}" -- "${command[@]}" </dev/null >>"$scratch/server.log" 2>&1 &
  server=$!
  local deadline=$((SECONDS + 120)) said=''
  until said=$(answers 2>&1); do
    if [ $SECONDS -ge $deadline ]; then
      cat "$scratch/server.log" >&2
      die "the server runs and does not let its administrator in: $said"
    fi
    if ! kill -0 "$server" 2>/dev/null; then
      wait "$server" || true
      server=''
      if grep -q 'Address already in use' "$scratch/server.log"; then return 1; fi
      cat "$scratch/server.log" >&2
      die "the server did not start"
    fi
    sleep 0.02
  done
}

start_on_a_port() {
  local attempt
  if [ "$port" != 0 ]; then
    start || die "port $port is taken"
    return
  fi
  # Below the range the system hands out by itself, so that no program's own dynamic port meets it.
  for attempt in {1..50}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if start; then return; fi
  done
  die "no free port after $attempt attempts"
}

enter() { # enter ROOT ARGUMENTS... : this script again, inside of ROOT, with this machine's programs in a namespace of their own
  local root=$1 repository client=''
  shift
  [ "$(id -u)" = 0 ] || die "only root can start the server of another system ($root)"
  [ -x "$root/bin/bash" ] || die "there is no system in $root"
  repository=$(realpath "$here/../..")
  case $engine in pg) client=$(command -v psql) ;; maria) client=$(command -v mariadb) ;; esac
  mkdir -p "$root$repository"
  # shellcheck disable=SC2016
  exec env RDSGATE_ENTERED="$root" RDSGATE_CLIENT="$client" RDSGATE_SERVERS_CACHE="$repository/target/matrix/cache-${root##*/}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    unshare --mount bash -c '
      root=$1 repository=$2
      for place in /proc /dev /tmp "$repository"; do mount --rbind "$place" "$root$place"; done
      exec chroot "$root" "${@:3}"' enter "$root" "$repository" "$repository/tests/servers/${0##*/}" "$@"
}

# MySQL keeps to a skip-name-resolve that a later line takes back.
without_names() { case " ${settings[*]-} " in *" skip-name-resolve=OFF "*) ;; *) echo skip-name-resolve ;; esac; }

quoted() { local s=${1//\\/\\\\}; printf '"%s"' "${s//\"/\\\"}"; }

obey() { # the lines on standard input
  local command argument problem wanted attempt
  while read -r command argument; do
    if [ "$command" != certificate ]; then echo "error unknown command $command"; continue; fi
    if ! problem=$(present "$argument"); then echo "error $problem"; continue; fi
    reload
    wanted=$(fingerprint < "$data/server.pem")
    for attempt in {1..200}; do
      if [ "$(served)" = "$wanted" ]; then break; fi
      sleep 0.02
    done
    if [ "$(served)" = "$wanted" ]; then echo "certificate $argument"; else echo "error the server does not serve $argument"; fi
  done
}

serve() {
  local root=RDSGATE_${engine^^}_ROOT
  if [ -n "${!root:-}" ] && [ -z "${RDSGATE_ENTERED:-}" ]; then enter "${!root}" "$@"; fi
  options "$@"
  choose_owner
  locate
  choose_scratch
  prepare
  if [ -z "$trust" ]; then present "$certificate" || die "no certificate variant $certificate"; fi
  start_on_a_port
  printf '{"port":%s,"rds_host":%s,"region":%s,"ca":%s,"auth_log":%s,"server_log":%s,"iam_conf":%s,"socket_dir":%s,"version":%s,"client":%s}\n' \
    "$port" "$(quoted "${host%%,*}")" "$(quoted "$region")" "$(quoted "$ca/ca-bundle.pem")" "$(quoted "$scratch/auth.log")" \
    "$(quoted "$scratch/server.log")" "$(quoted "$scratch/iam.conf")" "$(quoted "$scratch/run")" "$(quoted "$version")" "$(quoted "${RDSGATE_CLIENT:-$client}")"
  if [ -n "$stay" ]; then wait "$server"; else obey; fi
}
