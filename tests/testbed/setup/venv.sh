#!/usr/bin/env bash
# venv.sh EXTRAS - make .venv in the project's root (or bring it up to date) with the project in it, editable.
#
# Debian's own python3 comes first when it is new enough: it is built with profile-guided optimisation, and the
# relay and the SIP stack run measurably faster on it than on a Python compiled with the defaults.
set -euo pipefail
cd "$(dirname "$0")/../../.."
extras=$1

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
find_python() {
  local candidate
  for candidate in /usr/bin/python3 $(compgen -c python3. | grep -xE 'python3\.[0-9]+' | sort -u -t. -k2,2nr) python3; do
    if candidate=$(command -v "$candidate") && new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  return 1
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  python=$(find_python) || {
    tests/testbed/setup/packages.sh python3=python3
    python=$(find_python) || { echo "missing: Python 3.11 or newer" >&2; exit 1; }
  }
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # No command tells whether the module is there, so the name of the command is one that cannot exist.
    tests/testbed/setup/packages.sh "ensurepip-of-$version=python$version-venv"
  fi
  rm -rf .venv
  "$python" -m venv .venv
fi
echo "installing the project into .venv ($(.venv/bin/python -V))"
# `make compile` compiles; an installation in the source tree need not.
AQUEDUCT_PLAIN=1 .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extras]"
