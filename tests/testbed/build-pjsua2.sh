#!/usr/bin/env bash
# build-pjsua2.sh PYTHON - make `import pjsua2` work in the environment of PYTHON (a venv's bin/python).
#
# pjsua2 is PJSIP's user agent for Python: real phones for the tests, and the better of the two callers of synthetic
# calls. The package index has only an old source of it that does not compile, so it is built here: PJSIP out of
# Debian's source package of Asterisk, which carries it whole. A minute or two, once; the two files that come of it are
# kept in .cache/pjsua2 and copied from there the next time. The host's apt configuration names the mirror; the lists
# that the source needs are private and removed again.
#
# PJSIP is GPL-2.0-or-later: it runs in processes of its own and is no part of this project.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
cache=$PWD/.cache/pjsua2
suites=${PJSUA2_SUITES:-"forky sid"}
jobs=2

say() { printf 'build-pjsua2: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

packages=()
command -v swig >/dev/null || packages+=("swig=swig")
[ -e /usr/include/srtp2/srtp.h ] || packages+=("headers-of-srtp=libsrtp2-dev")
[ -e /usr/include/openssl/ssl.h ] || packages+=("headers-of-ssl=libssl-dev")
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"] + "/Python.h")')
[ -e "$header" ] || packages+=("headers-of-python=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev")
tests/testbed/setup/packages.sh gcc=build-essential xz=xz-utils ${packages[@]+"${packages[@]}"}

# What was built with other settings, or for another Python, is not taken.
abi=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
key=$abi-$({ sed -n '/^# --- settings/,/^# --- build/p' "$0"; gcc -dumpversion; } | sha256sum | cut -c1-12)
built=$cache/$key
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')

deliver() {
  [ -f "$built/pjsua2.py" ] || return 1
  cmp -s "$built/_pjsua2.so" "$site/_pjsua2.so" && cmp -s "$built/pjsua2.py" "$site/pjsua2.py" && return 0
  cp --remove-destination "$built/pjsua2.py" "$built/_pjsua2.so" "$site/" || die "cannot write into $site"
  version=$("$python" -c 'import pjsua2; print(pjsua2.Endpoint().libVersion().full)') || die "what was built does not load"
  say "pjsua2 $version is in $site"
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if deliver; then exit 0; fi
say "building pjsua2: a minute or two, once"
began=$SECONDS
rm -rf "$cache"/work.* # of a run that was killed
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --- settings (a change here makes a new build)
cat >"$work/config_site.h" <<'H'
/* audio only, no sound device, many calls, samples mixed as they are so that recordings can be measured */
#define PJMEDIA_HAS_VIDEO                 0
#define PJMEDIA_AUDIO_DEV_HAS_PORTAUDIO   0
#define PJMEDIA_AUDIO_DEV_HAS_ALSA        0
#define PJMEDIA_AUDIO_DEV_HAS_NULL_AUDIO  1
#define PJMEDIA_CONF_USE_AGC              0
#define PJMEDIA_SRTP_HAS_DTLS             1
#define PJSUA_MAX_CALLS                   256
#define PJSUA_MAX_CONF_PORTS              1024
#define PJ_HAS_IPV6                       1
#define PJ_IOQUEUE_MAX_HANDLES            4096
#define PJSIP_MAX_PKT_LEN                 16000
#define PJ_LOG_MAX_LEVEL                  3     /* nothing on the console before it can be told to be quiet */
H
optimize="-O1 -g0 -fPIC -DNDEBUG -fno-strict-aliasing"
configuration=(--enable-epoll --with-external-srtp --disable-sound --disable-video --disable-upnp --disable-libuuid
  --disable-sdl --disable-ffmpeg --disable-v4l2 --disable-openh264 --disable-vpx --disable-libyuv --disable-libwebrtc
  --disable-bcg729 --disable-opencore-amr --disable-silk --disable-lyra --disable-opus --disable-speex-codec
  --disable-speex-aec --disable-gsm-codec --disable-ilbc-codec --disable-g7221-codec --disable-resample)
swig_options=(-threads -w312,315,402,403,473,503 -c++ -python)
# --- build

source_of_suite() { # suite -> the file name of PJSIP's source
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
  local codename mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release {print $1; exit}')
  [ -n "$mirror" ] || die "the host's apt configuration names no Debian mirror for ${codename:-this system}"
  [ -r "$keyring" ] || die "$keyring is missing (package debian-archive-keyring)"
  echo "deb-src [signed-by=$keyring] $mirror $1 main" >"$work/apt/sources.list"
  local state=(-o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=
    -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o Debug::NoLocking=1)
  apt-get "${state[@]}" -q update >"$work/apt/log" 2>&1 || return 1
  local uri file sum
  read -r uri file _ sum < <(apt-get "${state[@]}" source --print-uris asterisk 2>>"$work/apt/log" |
    grep -E 'orig-Xpjproject\.tar' | tr -d "'") || return 1
  /usr/lib/apt/apt-helper "${state[@]}" download-file "$uri" "$work/$file" "$sum" >>"$work/apt/log" 2>&1 || return 1
  echo "$work/$file"
}

for suite in $suites; do
  archive=$(source_of_suite "$suite") && break
  say "suite $suite cannot be used here: $(tail -n 1 "$work/apt/log")"
  archive=
done
[ -n "$archive" ] || die "none of these suites gave the source of PJSIP: $suites"

mkdir "$work/pj"
tar -C "$work/pj" --strip-components=1 -xf "$archive"
cd "$work/pj"
cp "$work/config_site.h" pjlib/include/pj/
# Debian leaves this sound device out of the archive; the makefile names it all the same.
[ -f pjmedia/src/pjmedia-audiodev/bdimad_dev.c ] || sed -i 's/\bbdimad_dev\.o\b//' pjmedia/build/Makefile
CFLAGS=$optimize CXXFLAGS=$optimize ./aconfigure "${configuration[@]}" >"$work/configure.log" 2>&1 ||
  { tail -n 20 "$work/configure.log" >&2; die "configure failed"; }

cd pjsip-apps/src/swig/python
includes=()
for part in pjlib pjlib-util pjmedia pjsip pjnath; do includes+=("-I$work/pj/$part/include"); done
swig "${swig_options[@]}" "${includes[@]}" -o wrap.cpp ../pjsua2.i >"$work/swig.log" 2>&1 ||
  { tail -n 20 "$work/swig.log" >&2; die "swig failed"; }
# The one file of the wrapper takes as long as a third of the library: it is compiled beside it.
say "compiling"
# shellcheck disable=SC2086
g++ -O0 -g0 -fPIC -w $(make -s -f helper.mak cflags) -I"$(dirname "$header")" -c wrap.cpp -o wrap.o >"$work/wrap.log" 2>&1 &
wrapper=$!
make -C "$work/pj" -j"$jobs" lib >"$work/make.log" 2>&1 || { tail -n 20 "$work/make.log" >&2; die "make failed"; }
wait "$wrapper" || { tail -n 20 "$work/wrap.log" >&2; die "the wrapper does not compile"; }
# shellcheck disable=SC2046
g++ -shared -o _pjsua2.so wrap.o $(make -s -f helper.mak ldflags) \
  $(make -s -f helper.mak libs | sed 's/^/-l/') -Wl,-s -Wl,--gc-sections -Wl,--exclude-libs,ALL >"$work/link.log" 2>&1 ||
  { tail -n 20 "$work/link.log" >&2; die "linking failed"; }

rm -rf "$cache/$abi"-* # of other settings
mkdir -p "$built"
cp _pjsua2.so "$built/"
cp pjsua2.py "$built/" # last: it says that the build is whole
cd "$cache/../.."
say "built in $((SECONDS - began)) s"
deliver
