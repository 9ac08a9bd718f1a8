# Debian's packages, from the mirror that this machine's apt uses; sourced by mysql-fetch, matrix and .ci/minimal.
# shellcheck shell=bash

# RDSGATE_DEBIAN_MIRROR=URL names a mirror where apt has none of Debian's, as on Ubuntu.
debian_mirror() { # prints the mirror's URL, or nothing
  if [ -n "${RDSGATE_DEBIAN_MIRROR:-}" ]; then echo "$RDSGATE_DEBIAN_MIRROR"; return; fi
  apt_sources | grep -v -e security -e ubuntu | head -n 1 || true
}
apt_sources() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null || true; }

debian_sources() { # debian_sources SUITE : lines for sources.list, with the security updates where apt has a mirror of those
  local security
  echo "deb $(debian_mirror) $1 main"
  security=$(apt_sources | grep security | grep -v ubuntu | head -n 1) || true
  if [ -n "$security" ] && [ "$1" != sid ]; then echo "deb $security $1-security main"; fi
}

debian_root() { # debian_root SUITE FOLDER : Debian's base system and make in FOLDER, and how this machine's apt reaches the mirror
  debootstrap --variant=minbase --include=make "$1" "$2" "$(debian_mirror)" > "$2.log" 2>&1 || { tail -n 20 "$2.log" >&2; return 1; }
  debian_sources "$1" > "$2/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-|Retries|Proxy)' > "$2/etc/apt/apt.conf.d/90machine" || true
  cp -L /etc/resolv.conf /etc/hosts "$2/etc"
}
