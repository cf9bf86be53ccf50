#!/usr/bin/env bash
# Compiles every table of a report in a two-column document with a real TeX, and fails on an error or on a table that does not fit.
# Needs pdflatex with booktabs (Debian: texlive-latex-recommended).
#
#   scripts/test-latex.sh REPORT_FOLDER [PDF]
set -euo pipefail
report=$(realpath "${1:?usage: scripts/test-latex.sh REPORT_FOLDER [PDF]}")
pdf=${2:+$(realpath -m "$2")}
command -v pdflatex > /dev/null || { echo "test-latex: no pdflatex here (Debian: apt-get install texlive-latex-recommended)" >&2; exit 7; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    printf '%s\n' '\documentclass[twocolumn]{article}' '\usepackage[margin=2cm]{geometry}'
    # The packages are those that the tables ask for, and no others.
    sed -n 's/^% In the preamble: //p' "$report"/*.tex | tr ' ' '\n' | sort -u
    echo '\begin{document}'
    for table in "$report"/*.tex; do echo "\\input{$table}"; echo '\clearpage'; done
    for label in $(sed -n 's/^\\label{\(.*\)}$/\1/p' "$report"/*.tex); do echo "Table~\\ref{$label}."; done
    echo '\end{document}'
} > "$work/tables.tex"
for _ in 1 2; do
    (cd "$work" && pdflatex -interaction=nonstopmode -halt-on-error tables.tex > log.txt) || { grep -A3 '^!' "$work/log.txt" >&2; exit 1; }
done
if grep -E 'Overfull .hbox|multiply defined|undefined|Missing character' "$work/log.txt" >&2; then
    echo "test-latex: a table does not fit, a label is missing, or a letter has no glyph" >&2
    exit 1
fi
[ -z "$pdf" ] || cp "$work/tables.pdf" "$pdf"
echo "test-latex: $(ls "$report"/*.tex | wc -l) files of tables compiled"
