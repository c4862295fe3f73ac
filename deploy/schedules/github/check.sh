#!/usr/bin/env bash
# The step of action.yml, which passes its inputs as variables. It ends with the exit code of the check, or with 0 if
# another job has to confirm a suspicion.
set -euo pipefail

loadtest=("$ACTION/.venv/bin/loadtest" regression)
options=(--history "$HISTORY" --output-dir "$OUTPUT_DIR")
while IFS= read -r argument; do
    [[ -z $argument ]] || options+=("$argument")
done <<<"$ARGUMENTS"

mkdir -p "$OUTPUT_DIR"
started=$(mktemp)
code=0
if [[ -n $SUSPECTS ]]; then
    "${loadtest[@]}" confirm "$SUSPECTS" "${options[@]}" || code=$?
else
    [[ -z $TARGET ]] || options+=(--target "$TARGET")
    [[ -z $TARGET_VERSION ]] || options+=(--target-version "$TARGET_VERSION")
    [[ $RERUN == true ]] || options+=(--no-rerun)
    "${loadtest[@]}" check "$SCENARIO" "${options[@]}" || code=$?
fi
echo "code=$code" >>"$GITHUB_OUTPUT"
for page in comparison.md report.md; do
    if [[ $OUTPUT_DIR/latest/$page -nt $started ]]; then
        cat "$OUTPUT_DIR/latest/$page" >>"$GITHUB_STEP_SUMMARY"
        break
    fi
done

if [[ $code == 6 && -z $SUSPECTS && $RERUN != true ]]; then
    suspects=$(find "$OUTPUT_DIR" -mindepth 2 -maxdepth 2 -name suspects.json -newer "$started" | sort | tail -n 1)
    if [[ -n $suspects ]]; then
        echo "suspects=$suspects" >>"$GITHUB_OUTPUT"
        echo "::notice title=Suspected::Another machine confirms or drops the suspicion."
        exit 0
    fi
fi
exit "$code"
