#!/bin/sh
# add-lines.sh HISTORY NEW...: add to the histories in the folder HISTORY the lines that they lack of those in the
# folders NEW. A history is a set of lines: nothing is taken away, and the same night may be added twice.
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
        # A line that was cut off, by a machine that died, must not become one in the middle.
        if [ -z "$(tail -c 1 "$new")" ]; then cp "$new" "$work/whole"; else sed '$d' "$new" >"$work/whole"; fi
        # Ends with 1 where no line is lacking.
        grep --fixed-strings --line-regexp --invert-match --file "$old" "$work/whole" >"$work/lacking" || [ $? = 1 ]
        cat "$work/lacking" >>"$old"
    done
done
