#!/usr/bin/env bash
# Brings a bare Debian or Ubuntu machine to the point where `make sweep` and `make test` work. Vagrant runs it as root; the
# work itself is `make setup`, so that a machine of your own and the virtual machine cannot differ.
set -euo pipefail
cd "${1:-/home/vagrant/testbed}"
export DEBIAN_FRONTEND=noninteractive
command -v make >/dev/null && command -v git >/dev/null || {
    apt-get update -q
    apt-get install -q -y --no-install-recommends make git ca-certificates
}
make setup
make check
