#!/usr/bin/env bash
# Runs all tests, or those that pytest's arguments choose: first what measures nothing, a worker on each core; then what
# measures links, limits and work, one test at a time, with the machine to itself.
set -euo pipefail
cd "$(dirname "$0")/.."

ran=no
part() {
    local status=0
    .venv/bin/python -m pytest "$@" || status=$?
    case $status in
        0) ran=yes ;;
        5) ;; # none of the chosen tests is of this part
        *) failed=yes ;;
    esac
}

failed=no
part -m "not alone" -n auto --dist loadfile "$@"
part -m alone "$@"
[ "$failed" = no ] && [ "$ran" = yes ]
