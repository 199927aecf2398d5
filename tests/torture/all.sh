#!/bin/sh
# The whole torture, with a log of tallies: kills of writers, crash points and power cuts under the shim, kills of flows.
set -eu
python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PREFECT_HOME="$folder/prefect" PRISM_CACHE="$folder/cache"
log=${TORTURE_LOG:-torture.log}

say() {
    echo "$@" | tee -a "$log"
}

run() {
    say "== $1, $(date -u +%H:%M:%S)"
    "$python" -m "tests.torture.$@" >>"$log" 2>"$folder/errors" || { tail -20 "$folder/errors"; status=1; }
    tail -1 "$log"
}

status=0
run kills --seeds 5 --kills 400
run flows --kills 50
if "$python" -c "from tests.torture import crashes; print(crashes.built('$folder'))" >"$folder/shim"; then
    LD_PRELOAD=$(cat "$folder/shim")
    export LD_PRELOAD
    run crashes
    run power
else
    say "crash points and power cuts were left out: there is no C compiler"
fi
exit $status
