#!/usr/bin/env bash
# Lock the packages of both images and of the development environment: versions and hashes, no
# index addresses. Run it after a change of a *.in file: `make lock`.
set -euo pipefail
cd "$(dirname "$0")"
dspy_version=3.4.1
compile=(../.venv/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links
         --no-emit-trusted-host --strip-extras --allow-unsafe --no-header)

"${compile[@]}" build.in -o build.txt
"${compile[@]}" operator.in -o operator.txt
"${compile[@]}" worker.in -o worker.txt
"${compile[@]}" scan.in -o scan.txt
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
../.venv/bin/pip download --quiet --no-deps --dest "$scratch" "dspy==$dspy_version"
{ echo "dspy==$dspy_version \\"
  ../.venv/bin/pip hash --algorithm sha256 "$scratch"/dspy-*.whl | sed -n 's/^--hash/    --hash/p'
  echo "    # by hand: installed with --no-deps, see worker.in"
} >> worker.txt
# One resolution for everything that ends up in one environment.
"${compile[@]}" dev.in operator.in worker.in -o "$scratch/dev.txt"
sed "s#$scratch/##" "$scratch/dev.txt" > dev.txt
tail -n 3 worker.txt >> dev.txt
