#!/usr/bin/env bash
# packages.sh COMMAND=PACKAGE... - make sure that the commands exist, by apt when this user may.
#
# Says nothing and takes no time when all are there. Where it may not install, it ends with one line that names
# what is missing and how to get it.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
PATH=$PATH:/usr/sbin:/sbin

missing=()
for pair in "$@"; do
  command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then sudo=()
elif sudo -n true 2>/dev/null; then sudo=(sudo -n env DEBIAN_FRONTEND=noninteractive)
else sudo=(none)
fi
if [ "${sudo[0]:-}" = none ] || ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]}; install with: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A source that cannot be read must not keep the others from being used: what counts is the installation.
"${sudo[@]}" apt-get -q update >"$log" 2>&1 || true
"${sudo[@]}" apt-get -q install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  echo "missing: ${missing[*]}; apt-get could not install them (see above)" >&2
  exit 1
}
