#!/bin/sh
# Runs the program of secrets.rs under Valgrind: no error, and one where there has to be one.
check() {
    valgrind --quiet --error-exitcode=9 --suppressions="$(dirname "$0")/secrets.supp" "$@"
}
check "$1" || exit 1
check "$1" leak > /dev/null 2>&1
if [ $? -ne 9 ]; then
    echo "a deliberate leak went unnoticed" >&2
    exit 1
fi
