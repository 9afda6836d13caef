#!/usr/bin/env bash
# Sets up everything that `make sweep` and `make test` need: system packages (Debian or Ubuntu, as root) and a virtual
# environment with pinned dependencies. Quick when nothing has changed; safe to kill and to run again. With `tests` as its
# argument also what only the tests use.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '[setup] %s\n' "$*"; }

mkdir -p .venv
exec 9>.venv/.setup-lock
flock 9  # two `make` at once: the second waits, then finds everything done

# --- system packages -------------------------------------------------------------------------------------------
# mininet brings mnexec (its Python module comes from the lock file); bridge-utils is what Mininet's LinuxBridge calls.
needed=(python3-venv mininet bridge-utils iproute2 iputils-ping ethtool kmod)
# SZ3's binding has wheels for Linux on x86-64 only.
build_sz3=
if [ "$(uname -s)" = Linux ] && [ "$(uname -m)" != x86_64 ]; then
    build_sz3=yes
    needed+=(git cmake g++ python3-dev)
fi
# Not needed to run: the data set of the quick start.
wanted=(dataset-fashion-mnist)
if [ "${1:-}" = tests ]; then
    # A browser and a reader of PDF for the report, Vagrant to check the Vagrantfile, a whole kernel as a process for
    # netem, Open vSwitch and cgroup v2 on machines whose own kernel lacks them, and an emulator for a kernel with two
    # processors (both amd64 only). Half a minute, once.
    wanted+=(chromium chromium-driver poppler-utils vagrant)
    [ "$(uname -m)" = x86_64 ] && wanted+=(user-mode-linux openvswitch-switch gcc libc6-dev qemu-system-x86 cpio)
fi

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

if command -v apt-get >/dev/null; then
    missing=()
    for package in "${needed[@]}" "${wanted[@]}"; do installed "$package" || missing+=("$package"); done
    if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ]; then
        say "system packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        log=.venv/.apt-log
        apt-get update -q >"$log" 2>&1 || say "apt-get update failed (no network?); going on with the lists at hand"
        for package in "${missing[@]}"; do
            if ! apt-get install -q -y --no-install-recommends "$package" >>"$log" 2>&1; then
                say "could not install '$package' (see $log); 'testbed check' says what that costs you"
            fi
        done
    elif [ ${#missing[@]} -gt 0 ]; then
        say "not root, so these stay missing: ${missing[*]}"
        say "    fix: sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
else
    say "no apt-get here: install Mininet and bridge-utils yourself, or use the modelled network"
fi

# --- a kernel for the emulator -------------------------------------------------------------------------------------
# Unpacked and not installed, so that nothing of the machine changes; the name of the package changes with each update.
kernel=.venv/full-kernel/vmlinuz
if [ "${1:-}" = tests ] && [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null && [ ! -s $kernel ]; then
    unpack_kernel() {
        local package folder
        for package in linux-image-cloud-amd64 linux-image-virtual; do # Debian's, Ubuntu's
            package=$(apt-cache depends "$package" 2>/dev/null | awk '/Depends: linux-image-/ {print $2; exit}')
            [ -n "$package" ] && break
        done
        [ -n "$package" ] || return 1
        folder=$(mktemp -d)
        (cd "$folder" && apt-get download -q "$package" && dpkg-deb -x ./*.deb .) &&
            mkdir -p .venv/full-kernel && cp "$folder"/boot/vmlinuz-* $kernel.new && mv $kernel.new $kernel
        local status=$?
        rm -rf "$folder"
        return $status
    }
    say "a kernel for the emulator"
    unpack_kernel >.venv/.kernel-log 2>&1 || say "could not unpack one (see .venv/.kernel-log); its tests will say so"
fi

# --- virtual environment ---------------------------------------------------------------------------------------
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "Python 3.11 or newer is needed, '$python' is $("$python" -V 2>&1 || echo absent); set PYTHON=/path/to/python3.11"
    exit 3
fi
# The tests need a browser's driver, Flower, the site's builder and so on: a lock of their own, which holds the other one.
digest() { cat "$1" requirements-torch.txt pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1; }
lock=requirements.lock stamp=.venv/.stamp
[ "${1:-}" = tests ] && lock=requirements-dev.lock stamp=.venv/.stamp-tests
if [ "$(cat "$stamp" 2>/dev/null)" = "$(digest "$lock")" ] && .venv/bin/python -c 'import testbed' 2>/dev/null; then
    exit 0
fi
rm -f .venv/.stamp .venv/.stamp-tests
say "virtual environment in .venv ($("$python" -V)); the first time this takes a few minutes"
[ -x .venv/bin/pip ] || "$python" -m venv .venv
# Modules are compiled when first imported: compiling all of PyTorch's and everybody's took as long as unpacking them.
install() { .venv/bin/python -m pip --disable-pip-version-check -qq install --no-compile "$@"; }
# PyTorch comes first and without hashes: its CPU and CUDA builds share one version number, and which of them is right
# depends on the machine. To save gigabytes on a machine without a GPU, point pip at PyTorch's CPU builds (PIP_INDEX_URL).
say "PyTorch"
install -r requirements-torch.txt
say "everything else, pinned with hashes"
install --require-hashes --no-deps -r "$lock"
if [ -n "$build_sz3" ]; then
    say "SZ3, from source, as there is no wheel for $(uname -m)"
    install --no-deps "$(grep -o '^pysz==[0-9.]*' requirements.lock)" ||
        say "could not build it; the codecs sz3, sz3-interp and sz3-nopred are missing here"
fi
install --no-deps --no-build-isolation -e .
digest "$lock" >"$stamp"
digest requirements.lock >.venv/.stamp
say "done"
