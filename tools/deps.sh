#!/bin/sh
# Installs (Debian, Ubuntu) or names (elsewhere) the packages that building and testing need.
# usage: tools/deps.sh deps|deps-dev      deps-dev adds what lint, test-opencl and test-emulated need
# With OPENCL=1 in the environment, deps adds what such a build needs.
set -eu

build="gcc make libc6-dev pkg-config libopenblas0 libpng-dev zlib1g-dev libjpeg-dev libutf8proc-dev libcmocka-dev"
opencl="ocl-icd-opencl-dev opencl-c-headers"
lint="clang libomp-dev binutils"
devices="pocl-opencl-icd oclgrind"
emulated="libsimde-dev"
want=$build
[ "${OPENCL:-0}" = 0 ] || want="$build $opencl"
[ "${1:-deps}" = deps ] || want="$build $opencl $lint $devices $emulated"

if ! command -v apt-get >/dev/null 2>&1; then
    cat <<END
The packages to install:
  Fedora    gcc make pkgconf openblas libpng-devel zlib-devel libjpeg-turbo-devel utf8proc-devel libcmocka-devel
  Arch      gcc make pkgconf openblas libpng libjpeg-turbo libutf8proc cmocka
  Alpine    gcc make musl-dev pkgconf openblas libpng-dev zlib-dev libjpeg-turbo-dev utf8proc-dev cmocka-dev
  Homebrew  pkgconf openblas libpng zlib jpeg-turbo utf8proc cmocka libomp
For OPENCL=1:
  Fedora    ocl-icd-devel opencl-headers
  Arch      ocl-icd opencl-headers
  Alpine    opencl-icd-loader-dev opencl-headers
  Homebrew  nothing: it is part of the system
For 'make lint' also clang with its OpenMP library (libomp) and binutils, for 'make test-opencl' PoCL and Oclgrind,
for 'make test-emulated' SIMDe.
END
    exit 0
fi

missing=
for p in $want; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "to install as root: apt-get install$missing" >&2; exit 1; }
    as_root=sudo
fi
echo "installing$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
