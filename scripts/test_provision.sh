#!/usr/bin/env bash
# Proves that scripts/provision.sh needs nothing preinstalled: runs it in a bare Debian 12 root, made with debootstrap in a
# folder of its own and removed afterwards. Takes root, debootstrap, some 3 GB of disk and several minutes (eight on two
# cores that had other work as well); `make test-provision` calls it. What is tested is HEAD, not the working tree.
#
#     BIND="/etc/pip.conf /opt/wheels" scripts/test_provision.sh     # show the root parts of this machine, read-only:
#                                                                    # where pip's configuration or packages come from
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "test_provision.sh: needs root" >&2; exit 3; }
    command -v debootstrap >/dev/null || { echo "test_provision.sh: apt-get install debootstrap" >&2; exit 3; }
    work=$(mktemp -d "${TMPDIR:-/tmp}/fedsz-provision-XXXXXX")
    # Mounts are made in a namespace that ends with the script, so nothing but plain files is left to remove.
    trap 'rm -rf --one-file-system "$work"' EXIT
    unshare --mount --pid --fork --kill-child "$0" inside "$work/root"
    exit
fi

root=$2
mount --make-rprivate /
took() { printf '[provision] %s after %s s\n' "$1" "$SECONDS"; }
debootstrap --variant=minbase bookworm "$root" ${MIRROR:+"$MIRROR"} >"$root.log" 2>&1 ||
    { tail -20 "$root.log" >&2; exit 1; }
took "bare Debian root with $(find "$root/var/lib/dpkg/info" -name '*.list' | wc -l) packages"

mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no package starts a daemon in here
chmod +x "$root/usr/sbin/policy-rc.d"
for path in ${BIND:-}; do
    if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root$(dirname "$path")" && touch "$root$path"; fi
    mount --bind -o ro "$path" "$root$path"
done
place=/home/vagrant/testbed # where the Vagrantfile puts it
mkdir -p "$root$place"
git archive HEAD | tar -x -C "$root$place"

# Of the environment only what tells pip where packages are.
mapfile -t pip < <(env | grep '^PIP_' || true)
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "${pip[@]}" chroot "$root" bash "$place/scripts/provision.sh" "$place"
took "make setup and make check"
# The small scenario of the tutorial, so that the answer is seen to come out as well.
awk '/^\140\140\140yaml/ { on = 1; next } /^\140/ { on = 0 } on' docs/tutorial.md >"$root$place/small.yaml"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" bash -c '
    set -euo pipefail
    cd "$1"
    .venv/bin/testbed sweep small.yaml --quiet --out out
    test -s out/report.html' - "$place"
took "a small sweep"
