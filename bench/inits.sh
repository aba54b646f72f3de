#!/usr/bin/env bash
# Compares the initialisations of LoRA-Muon's pairs, and AdamW from the usual start: a small base trained on the first half of a
# text is adapted to the second half, for each start, learning rate and seed. Prints the validation losses as a table.
#
#   bench/inits.sh [-p POLAR] [-t TEXT] [-r RANK] [-n STEPS] [-s "SEEDS"]
#
# Needs bash, awk and Go. On 2 cores it takes about a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
polar= text=$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt rank=8 steps=100 seeds="0 1 2"
while getopts p:t:r:n:s: option; do
  case $option in
    p) polar=$(realpath "$OPTARG") ;;
    t) text=$OPTARG ;;
    r) rank=$OPTARG ;;
    n) steps=$OPTARG ;;
    s) seeds=$OPTARG ;;
    *) exit 2 ;;
  esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$polar" ]; then
  polar=$work/polar
  GOEXPERIMENT=simd go build -o "$polar" ./cmd/polar
fi
LC_ALL=C tr -cd '\000-\177' <"$text" >"$work/text.txt" # ASCII alone: a half may end anywhere
half=$(($(wc -c <"$work/text.txt") / 2))
head -c "$half" "$work/text.txt" >"$work/first.txt"
tail -c +"$((half + 1))" "$work/text.txt" | # without the characters that the base does not know
  LC_ALL=C awk 'NR == FNR {for (i = 1; i <= length($0); i++) known[substr($0, i, 1)]; next}
    {kept = ""; for (i = 1; i <= length($0); i++) if ((c = substr($0, i, 1)) in known) kept = kept c; print kept}' \
    "$work/first.txt" - >"$work/second.txt"
"$polar" train --offline --data "$work/first.txt" --steps 300 --eval-every 300 --sample-tokens 0 -q -o "$work/base" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

# one OPTIMIZER INIT RATE SEED: prints the start, the final and the largest training loss.
one() {
  local out=$work/run
  rm -rf "$out"
  if ! "$polar" finetune --offline --model "$work/base/model" --data "$work/second.txt" --sampling windows --length 128 --batch 16 \
    --rank "$rank" --optimizer "$1" --init "$2" --lr "$3" --seed "$4" --steps "$steps" --eval-every "$steps" --sample-tokens 0 \
    --export last -q --json -o "$out" >"$work/json" 2>"$work/log"; then
    tail -n 1 "$work/log" >&2
    echo "nan nan nan"
    return
  fi
  awk -F'[:,]' '/"StartLoss"/ {s = $2} /"FinalLoss"/ {f = $2} /"Losses"/ {in_losses = 1; next} in_losses && /\]/ {in_losses = 0}
    in_losses {x = $1 + 0; if (x > top) top = x} END {print s + 0, f + 0, top}' "$work/json"
}

printf '| optimizer | init | rate | start | final, mean of seeds (spread) | largest training loss |\n|---|---|---|---|---|---|\n'
table() { # OPTIMIZER INIT RATES...
  local optimizer=$1 init=$2 rate seed
  shift 2
  for rate in "$@"; do
    for seed in $seeds; do one "$optimizer" "$init" "$rate" "$seed"; done |
      awk -v o="$optimizer" -v i="$init" -v r="$rate" '{n++; s = $1; sum += $2; if (n == 1 || $2 < low) low = $2; if (n == 1 || $2 > high) high = $2; if ($3 > top) top = $3}
        END {printf "| %s | %s | %s | %.4f | %.4f (%.4f to %.4f) | %.3f |\n", o, i, r, s, sum / n, low, high, top}'
  done
}
for init in balanced pissa gradient lora; do table lora-muon "$init" 0.03 0.1 0.3; done
table adamw lora 3e-4 1e-3 3e-3 1e-2
