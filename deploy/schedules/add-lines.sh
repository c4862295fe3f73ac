#!/bin/sh
# add-lines.sh HISTORY NEW...: add missing lines from the folders NEW to the histories in the folder HISTORY.
# A history is a set of lines: no line is removed, and the same night may be added twice.
set -eu
into=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for folder; do
    for new in "$folder"/*.jsonl; do
        [ -s "$new" ] || continue
        old=$into/${new##*/}
        touch "$old"
        # Leaves out a last line that is cut off because a machine died: the next line would continue it.
        if [ -z "$(tail -c 1 "$new")" ]; then cp "$new" "$work/whole"; else sed '$d' "$new" >"$work/whole"; fi
        # grep ends with 1 if no line is missing.
        grep --fixed-strings --line-regexp --invert-match --file "$old" "$work/whole" >"$work/lacking" || [ $? = 1 ]
        cat "$work/lacking" >>"$old"
    done
done
