#!/usr/bin/env bash
# compile.sh - compile what every SIP message goes through, in place (setup.py, docs/decisions/0005).
#
# Where there is no compiler, and none may be installed, it all stays plain Python.
set -euo pipefail
cd "$(dirname "$0")/../../.."
header=$(.venv/bin/python -c 'import sys, sysconfig; print(sysconfig.get_paths()["include"] + "/Python.h", "python%d.%d-dev" % sys.version_info[:2])')
needed=(gcc=build-essential)
[ -e "${header% *}" ] || needed+=("headers-of-python=${header#* }")
if ! tests/testbed/setup/packages.sh "${needed[@]}"; then
  echo "without a compiler all is plain Python: more CPU a call, and nothing else changes"
  exit 0
fi
echo "compiling what SIP messages go through (half a minute)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
rm -f proxy/*.so proxy/*/*.so
.venv/bin/python setup.py -q build_ext --inplace >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
touch proxy/compiled__mypyc*.so  # where nothing had changed, too
