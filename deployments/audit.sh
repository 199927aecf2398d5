#!/bin/sh
# Ask the package index for known weaknesses of the packages at the versions of deployments/constraints.txt.
# Exit code 1 where one has any; where the index does not answer that question, a sentence says so and nothing is proven.
set -eu
report=.venv/audit.json
log=.venv/audit.log
rm -f "$report"
if .venv/bin/python -m pip_audit --requirement deployments/constraints.txt --no-deps --disable-pip \
    --progress-spinner off --timeout 30 --format json --output "$report" >"$log" 2>&1; then
    weak=no
else
    weak=yes
fi
if ! [ -s "$report" ]; then
    echo "prism: skipped, the service that knows of weaknesses did not answer; the last line of $log says why"
    exit 0
fi
asked=$(grep -o '"vulns"' "$report" | wc -l)
unknown=$(grep -o '"skip_reason"' "$report" | wc -l)
if [ "$asked" -eq 0 ]; then
    echo "prism: skipped, the package index knows of weaknesses of none of the $unknown packages; run it where pypi.org answers"
    exit 0
fi
echo "prism: $asked packages were looked up, $unknown are unknown there; $report lists them"
if [ "$weak" = yes ]; then
    grep -v 'could not be audited' "$log" >&2 || true
    echo "prism: a package has a known weakness; raise its version in deployments/constraints.txt and run make test" >&2
    exit 1
fi
