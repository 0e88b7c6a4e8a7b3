#!/bin/sh
# Runs every fuzz target in a folder for so many seconds each; keeps what it learns in
# csrc/fuzz/corpus/TARGET. Usage: fuzz.sh FOLDER SECONDS
set -eu
for target in "$1"/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    corpus="csrc/fuzz/corpus/$name"
    mkdir -p "$corpus" "$1/new-$name"
    echo "== $name, $2 s"
    "$target" -max_total_time="$2" -max_len=65536 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$1/" "$1/new-$name" "$corpus" 2>&1 | tail -n 12
    "$target" -merge=1 "$corpus" "$1/new-$name" >/dev/null 2>&1
done
