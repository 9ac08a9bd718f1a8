#!/bin/sh
# Installs rdsgate from its releases, for your own user and without root:
#
#   curl -fsSL https://github.com/rdsgate/rdsgate/releases/latest/download/install.sh | sh
#
#   --version 0.1.0      this release (the latest)
#   --prefix FOLDER      into FOLDER/bin and FOLDER/share (~/.local)
#   --target TRIPLE      this build, such as x86_64-unknown-linux-musl (the one for this machine)
#   --from URL           from a mirror of the releases
#   --remove             takes away what it installed
#
# It downloads one archive and compares it with the release's SHA256SUMS before it unpacks it.
# Everything is in functions, so that a script that arrives in part does nothing.
set -eu

FROM_SOURCE='build it from source: cargo install --git https://github.com/rdsgate/rdsgate'

say() { printf 'install.sh: %s\n' "$*" >&2; }
die() { say "$1"; [ $# -lt 2 ] || say "hint: $2"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

main() {
  releases=https://github.com/rdsgate/rdsgate/releases
  version='' prefix='' target='' remove=''
  while [ $# -gt 0 ]; do
    case $1 in
      --version | --prefix | --target | --from) [ $# -gt 1 ] || die "$1 needs a value" ;;
      --remove) remove=yes; shift; continue ;;
      -h | --help) usage; exit 0 ;;
      *) die "unknown argument $1" "--help lists the arguments" ;;
    esac
    case $1 in
      --version) version=${2#v} ;;
      --prefix) prefix=$2 ;;
      --target) target=$2 ;;
      --from) releases=${2%/} ;;
    esac
    shift 2
  done
  case $version$target in *[!0-9A-Za-z.+_-]*) die "a version or target has other characters than letters, digits and .+_-" ;; esac
  [ -n "$prefix" ] || prefix=${HOME:?HOME is not set: name a folder with --prefix}/.local
  case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
  case $releases in
    https://* | http://127.0.0.1:* | http://localhost:* | http://\[::1\]:*) ;;
    *) die "--from is $releases, which is neither https nor on this machine" ;;
  esac
  if [ -n "$remove" ]; then
    rm -f "$prefix/bin/rdsgate" "$prefix"/share/man/man1/rdsgate.1 "$prefix"/share/man/man1/rdsgate-*.1 \
      "$prefix/share/bash-completion/completions/rdsgate" "$prefix/share/zsh/site-functions/_rdsgate" \
      "$prefix/share/fish/vendor_completions.d/rdsgate.fish"
    say "removed $prefix/bin/rdsgate, its manual pages and completions"
    exit 0
  fi

  # What can fail on this machine fails before anything is downloaded.
  [ -n "$target" ] || target=$(this_machine)
  has curl || has wget || die "neither curl nor wget is there" "install one of them"
  has sha256sum || has shasum || has openssl ||
    die "neither sha256sum, shasum nor openssl is there, so the download cannot be checked" "install one of them"
  mkdir -p "$prefix/bin" 2>/dev/null || unwritable "$prefix/bin"
  [ -w "$prefix/bin" ] || unwritable "$prefix/bin"
  # Beside its destination: a program in /tmp may be forbidden to run.
  work=$(mktemp -d "$prefix/bin/.rdsgate.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  if [ -n "$version" ]; then
    download "download/v$version/SHA256SUMS" "$work/SHA256SUMS" ||
      die "cannot get release $version from $releases" "see $releases for those that exist, and check the network"
  else
    download latest/download/SHA256SUMS "$work/SHA256SUMS" ||
      die "cannot find the latest release at $releases" "check the network and the variable https_proxy"
    version=$(sed -n "s/^[0-9a-f]\{64\}  rdsgate-\([0-9][0-9A-Za-z.+-]*\)-$target\.tar\.gz\$/\1/p" "$work/SHA256SUMS")
    [ -n "$version" ] || die "the latest release has no build for $target" "$FROM_SOURCE"
  fi
  name=rdsgate-$version-$target
  sum=$(sed -n "s/^\([0-9a-f]\{64\}\)  $name\.tar\.gz\$/\1/p" "$work/SHA256SUMS")
  [ -n "$sum" ] || die "release $version has no build for $target" "$FROM_SOURCE"

  say "downloading $name.tar.gz"
  download "download/v$version/$name.tar.gz" "$work/archive" ||
    die "the download of $name.tar.gz from $releases failed" "run it again; nothing was changed"
  found=$(checksum "$work/archive")
  [ "$found" = "$sum" ] ||
    die "$name.tar.gz is damaged: its SHA-256 is $found, and SHA256SUMS has $sum" "run it again; nothing was changed"
  tar -xzf "$work/archive" -C "$work" || die "$name.tar.gz cannot be unpacked"
  "$work/$name/rdsgate" --version >"$work/said" 2>&1 ||
    die "the program for $target does not run here: $(cat "$work/said")" \
      "for another one: --target TRIPLE, such as x86_64-unknown-linux-musl; or $FROM_SOURCE"

  cd "$work/$name"
  put 755 rdsgate bin/rdsgate
  for page in man/*.1; do
    [ ! -f "$page" ] || put 644 "$page" "share/man/man1/${page#man/}"
  done
  put_if completions/rdsgate.bash share/bash-completion/completions/rdsgate
  put_if completions/_rdsgate share/zsh/site-functions/_rdsgate
  put_if completions/rdsgate.fish share/fish/vendor_completions.d/rdsgate.fish

  say "installed $(cat "$work/said"): $prefix/bin/rdsgate"
  say "manual pages and completions are in $prefix/share; --remove takes all of it away"
  case :${PATH:-}: in
    *:"$prefix/bin":*) say 'next: rdsgate ls' ;;
    *) say "next: add $prefix/bin to PATH, for instance in ~/.profile: PATH=\"$prefix/bin:\$PATH\"" ;;
  esac
}

usage() {
  cat <<'END'
install.sh [--version VERSION] [--prefix FOLDER] [--target TRIPLE] [--from URL]
install.sh --remove [--prefix FOLDER]

Installs rdsgate for your own user, without root, into ~/.local.

  --version VERSION   this release [default: the latest]
  --prefix FOLDER     into FOLDER/bin and FOLDER/share [default: ~/.local]
  --target TRIPLE     this build [default: the one for this machine]
  --from URL          from a mirror of the releases
END
}

# The target triple of this machine.
this_machine() {
  system=$(uname -s) machine=$(uname -m)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) die "there is no build for $machine" "$FROM_SOURCE" ;;
  esac
  case $system in
    Linux) printf '%s-unknown-linux-%s\n' "$machine" "$(libc "$machine")" ;;
    Darwin)
      # A shell under Rosetta calls an Apple processor x86_64.
      if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then machine=aarch64; fi
      printf '%s-apple-darwin\n' "$machine"
      ;;
    *) die "this script is for Linux and macOS, not for $system" "on Windows: winget install rdsgate.rdsgate, or scoop" ;;
  esac
}

# gnu where the GNU C library is there in version 2.17 or newer, else musl: that build is static and needs none.
libc() {
  # There is one build for arm64.
  if [ "$1" = aarch64 ]; then echo gnu; return; fi
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc 2\.\([0-9]*\).*/\1/p')
  if [ -z "$glibc" ] && [ -e /lib64/ld-linux-x86-64.so.2 ]; then glibc=17; fi
  if [ "${glibc:-0}" -ge 17 ]; then echo gnu; else echo musl; fi
}

download() { # download PATH FILE
  if has curl; then
    case $releases in https:*) only='=https' ;; *) only='=http' ;; esac
    curl --proto "$only" --retry 2 --connect-timeout 20 -fsSL -o "$2" "$releases/$1"
  else
    # Without a timeout: with one, the wget of busybox 1.35 crashes.
    wget -q -O "$2" "$releases/$1"
  fi
}

checksum() {
  if has sha256sum; then sha256sum "$1"
  elif has shasum; then shasum -a 256 "$1"
  else openssl dgst -sha256 -r "$1"
  fi | cut -d ' ' -f 1
}

# Replaces a file in one step: a program that is running keeps its own.
put() { # put MODE FILE PATH
  new=$prefix/$3.new.$$
  mkdir -p "$prefix/${3%/*}" || unwritable "$prefix/${3%/*}"
  if cp "$2" "$new" && chmod "$1" "$new" && mv -f "$new" "$prefix/$3"; then return; fi
  rm -f "$new"
  unwritable "$prefix/$3"
}

unwritable() {
  die "$1 cannot be written by $(id -un)" "choose a folder of your own: --prefix FOLDER"
}

put_if() {
  [ ! -f "$1" ] || put 644 "$1" "$2"
}

main "$@"
