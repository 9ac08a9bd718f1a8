# What dist and test share; sourced, in the folder of the repository.
# shellcheck shell=bash
# shellcheck source=tests/servers/debian.sh
. tests/servers/debian.sh

version=$(sed -n '/^\[package\]/,/^version/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
image_name=ghcr.io/rdsgate/rdsgate
dist=$PWD/dist
# Kept between runs: tools, chroots, caches of compilers.
work=$PWD/target/packaging
mkdir -p "$work"

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }
step() { printf '=== %s (%s s)\n' "$*" "$SECONDS"; }

python_tool() { # python_tool NAME PACKAGE==VERSION... : a virtual environment of its own for a tool
  local place=$work/$1
  shift
  if [ "$(cat "$place/versions" 2>/dev/null)" != "$*" ]; then
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check "$@"
    echo "$*" > "$place/versions"
  fi
}

debian() { # debian SUITE [PACKAGE...] : Debian's base system and these packages in $work/SUITE
  local suite=$1 root=$work/$1
  shift
  [ "$(id -u)" = 0 ] || fail "only root can make a Debian $suite; run this as root"
  command -v debootstrap > /dev/null || fail "debootstrap is not installed: apt-get install debootstrap"
  if [ ! -e "$root/packages" ] || [ "$(cat "$root/packages")" != "$*" ]; then
    rm -rf "$root"
    debian_root "$suite" "$root"
    # Files under /dev and services are not for a folder.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    if [ $# -gt 0 ]; then
      chroot "$root" sh -ec 'for package; do case $package in *:*) dpkg --add-architecture "${package##*:}" ;; esac; done
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$@"' sh "$@" > "$root.log" 2>&1 < /dev/null || { tail -n 20 "$root.log" >&2; return 1; }
    fi
    echo "$*" > "$root/packages"
  fi
}
