#!/bin/sh
# Checks what this machine has, for building (`setup.sh build`), for tests as well (`setup.sh all`), and besides for the
# benchmarks (`bench`), for tests in a virtual machine (`vm`) or for cri-tools' suite (`conformance`), and installs the
# Debian packages that are missing. Services that a package brings are not started, and nothing that runs on the machine
# already is touched.
set -eu

fail() {
  echo "error: $*" >&2
  exit 1
}

[ "$(uname -s)" = Linux ] || fail "this is $(uname -s): the shim runs on Linux only"
case $(uname -m) in
  x86_64 | aarch64 | arm64) ;;
  *) fail "this is $(uname -m): Node 26 comes for x86_64 and aarch64" ;;
esac
command -v node >/dev/null || fail 'no "node" on the PATH: install Node 20 or newer (it only starts npm; Node 26 comes as a package)'
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "Node $major is on the PATH: npm needs 20 or newer"
command -v npm >/dev/null || fail 'no "npm" on the PATH: install npm 10 or newer'

# System administration tools are not on everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin
missing=
need() { # command-or-file package…
  case $1 in
    /*) [ -e "$1" ] && return ;;
    *) command -v "$1" >/dev/null && return ;;
  esac
  shift
  missing="$missing $*"
}
need "${CC:-cc}" gcc libc6-dev
need "${CXX:-c++}" g++
if [ "${1:-all}" != build ]; then
  need containerd containerd
  need runc runc
  need /usr/lib/cni/ptp containernetworking-plugins
  need docker-registry docker-registry
  need ip iproute2
fi
if [ "${1:-all}" = bench ]; then
  need wrk wrk
  need taskset util-linux
fi
if [ "${1:-all}" = vm ]; then
  need qemu-system-x86_64 qemu-system-x86
  need mmdebstrap mmdebstrap
  need mke2fs e2fsprogs
fi
if [ "${1:-all}" = conformance ]; then
  need busybox busybox-static
  need /usr/include/seccomp.h libseccomp-dev
fi
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null ||
  fail "missing (by their Debian names):$missing; install them with this system's package manager"
[ "$(id -u)" = 0 ] || fail "missing packages:$missing; run \"make setup\" as root, or: apt-get install$missing"

echo "setup: installing$missing"
# invoke-rc.d asks this file before it starts a service; one that is there already has its own say.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
  cat "$log" >&2
  rm -f "$log"
  fail "apt-get could not install$missing"
fi
rm -f "$log"
