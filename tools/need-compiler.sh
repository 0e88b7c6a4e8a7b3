#!/bin/sh
# Says plainly what is missing to compile velum: a C compiler.
for cc in ${CC:-} cc gcc clang; do
    if command -v "$cc" >/dev/null 2>&1; then
        exit 0
    fi
done
echo "velum needs a C compiler to build: install one, on Debian with: apt-get install gcc libc6-dev" >&2
exit 1
