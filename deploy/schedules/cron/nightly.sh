#!/bin/sh
# nightly.sh [OPTION...]: one check, for cron. It prints nothing if the check passes, so that cron sends mail only for
# other verdicts. It passes the options to `loadtest regression check` and ends with the exit code of that command.
#
# LOADTEST_KEYS names a file with WORKFLOW_API_KEYS=... and WORKFLOW_ENDPOINT=..., readable only for this user. The
# history stays in reports/baselines/, beside the last 90 runs: back it up.
set -eu
cd "$(dirname "$0")/../../.."

if [ -n "${LOADTEST_KEYS:-}" ]; then
    set -a
    # shellcheck source=/dev/null
    . "$LOADTEST_KEYS"
    set +a
fi

# Two checks at once would share one quota, and neither could be judged.
mkdir -p reports
exec 9>reports/.nightly.lock
if ! flock --nonblock 9; then
    echo "The previous check is still running, so this check was skipped."
    exit 75
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
code=0
.venv/bin/loadtest regression check "$@" >"$output" 2>&1 9>&- || code=$?
case $code in
    0) ;;
    1) echo "A threshold failed." ;;
    3) echo "The run is invalid, or cannot be compared with its history." ;;
    4) echo "The API is slower, or rejects more requests." ;;
    5) echo "The target did not answer, is not this API, or refused the key." ;;
    6) echo "Inconclusive." ;;
    7) echo "The run was aborted." ;;
    *) echo "loadtest ended with $code." ;;
esac
[ "$code" = 0 ] || { echo && cat "$output"; }
.venv/bin/loadtest runs --keep 90 --yes >/dev/null
exit "$code"
