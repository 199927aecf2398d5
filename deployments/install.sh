#!/bin/sh
# Make .venv and install the project into it, at the versions of deployments/constraints.txt.
#   PYTHON=... TORCH_INDEX=... sh deployments/install.sh .[extra]
# Whatever goes wrong ends in one sentence that says what to do; pip's own words are in .venv/install.log.
set -eu
target=$1
log=.venv/install.log

fail() {
    echo "prism: $1" >&2
    exit 1
}

[ -n "$PYTHON" ] || fail "no python3 was found; install Python 3.11, or name one with make PYTHON=/path/to/python3.11."
found=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "$PYTHON does not run; install Python 3.11, or name one with make PYTHON=/path/to/python3.11."
[ "$found" = 3.11 ] ||
    fail "$PYTHON is Python $found and PRISM supports 3.11; name one with make PYTHON=/path/to/python3.11."

if ! [ -x .venv/bin/python ]; then
    echo "prism: making .venv with $PYTHON"
    "$PYTHON" -m venv .venv 2>/dev/null ||
        fail "$PYTHON could not make .venv here; check free disk space and, on Debian, install python3.11-venv."
fi

# run pip: all its words go to the log, one line a package to the terminal; fails when pip fails
install() {
    : >"$log.status"
    { (.venv/bin/python -m pip install --disable-pip-version-check --constraint deployments/constraints.txt "$@" 2>&1 &&
        echo prism-pip-ok >"$log.status") | tee -a "$log" |
        awk '/^(Collecting|Installing) / { printf "  %s\n", substr($0, 1, 100); fflush() }'; } || true
    [ -s "$log.status" ]
}
explain() {
    if grep -qi 'no space left' "$log"; then
        fail "the disk is full; free 4 GB and run make again: it goes on where it stopped."
    elif grep -qiE 'connection|resolve|timed out|unreachable|from versions: none' "$log"; then
        fail "the package index cannot be reached; connect to the network, or point pip at a mirror, and run make again."
    fi
    fail "pip could not install the packages; the last lines of $log say why."
}

echo "prism: installing $target (a few minutes the first time; details in $log)"
: >"$log"
if [ -n "$TORCH_INDEX" ]; then
    install --index-url "$TORCH_INDEX" torch || explain
fi
install --editable "$target" || explain
