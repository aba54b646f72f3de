#!/usr/bin/env bash
# Kills a training with SIGKILL at random moments, resumes it each time, and compares what comes out with an undisturbed
# run: the losses of every step and of every evaluation, and the exported weights, bit for bit.
#
#   bench/killtest.sh [-n KILLS] [-s SEED] [-p POLAR] [-- COMMAND FLAG...]
#
# COMMAND is train or finetune with its flags, except -o; without it, a small model trains on Newton's Opticks. A kill comes
# 0.1 s to 1.6 T/KILLS after a start, T being the time of the undisturbed run, so that they fall on all parts of it; should
# the run end before the last kill, it is compared and begun again. POLAR is the program, built anew if it is not given.
# Needs bash, Go and GNU coreutils. Exits with 1 unless every resumption found a readable checkpoint and all numbers agree.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=20 seed=1 polar=
while getopts n:s:p: option; do
  case $option in
    n) kills=$OPTARG ;;
    s) seed=$OPTARG ;;
    p) polar=$(realpath "$OPTARG") ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$polar" ]; then
  polar=$work/polar
  GOEXPERIMENT=simd go build -o "$polar" ./cmd/polar
fi
if [ $# -eq 0 ]; then
  set -- train --data "$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt" --layers 2 --hidden 64 --length 64 --batch 8 \
    --steps 600 --save-every 5 --eval-every 50 --eval-batches 4 --sample-tokens 0
fi
fail() { printf 'FAILED: %s\n' "$1"; [ -z "${2:-}" ] || tail -n 20 "$2"; exit 1; }

start=$EPOCHREALTIME
"$polar" "$@" -o "$work/whole" >"$work/whole.log" 2>&1 || fail "the undisturbed run" "$work/whole.log"
whole=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000)) # ms
echo "undisturbed run: $((whole / 1000)) s"

# Everything in the metrics but how long it took.
numbers() { sed -E 's/,"(seconds|tokens_per_second)":[^,}]*//g' "$1/metrics.jsonl"; }
numbers "$work/whole" >"$work/whole.txt"
lines=$(wc -l <"$work/whole.txt")

# compare LOG: the run in cut has ended; hold it against the undisturbed one and begin again.
ended=0 compared=0
compare() {
  if grep -q -i -E 'damaged|unreadable' "$1"; then fail "a checkpoint was not readable" "$1"; fi
  numbers "$work/cut" >"$work/cut.txt"
  if ! diff "$work/whole.txt" "$work/cut.txt" >"$work/difference.txt"; then
    fail "the metrics differ ($(grep -c '^[<>]' "$work/difference.txt") lines)" "$work/difference.txt"
  fi
  compared=0
  while IFS= read -r file; do
    cmp "$file" "$work/cut/${file#"$work/whole/"}" || fail "the exported weights differ"
    compared=$((compared + 1))
  done < <(find "$work/whole" -name '*.safetensors' -not -path '*/checkpoints/*')
  [ "$compared" -gt 0 ] || fail "there are no exported weights to compare"
  ended=$((ended + 1))
  rm -rf "$work/cut"
}

RANDOM=$seed
killed=0 resumed=0 anew=0 writing=0
while [ "$killed" -lt "$kills" ]; do
  log=$work/run.log
  if [ -n "$(find "$work/cut/checkpoints" -name state.json -not -path '*.polar-tmp-*' 2>/dev/null | head -n 1)" ]; then
    "$polar" "$1" --resume -o "$work/cut" >"$log" 2>&1 &
    resumed=$((resumed + 1))
  else
    rm -rf "$work/cut" # killed before there was a checkpoint: nothing to go on from
    "$polar" "$@" -o "$work/cut" >"$log" 2>&1 &
    anew=$((anew + 1))
  fi
  child=$!
  delay=$((100 + RANDOM * (whole * 16 / 10 / kills) / 32768))
  sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"
  if ! kill -9 "$child" 2>/dev/null; then
    wait "$child" || fail "the run ended by itself after $killed kills" "$log"
    compare "$log"
    continue
  fi
  wait "$child" 2>/dev/null || true
  killed=$((killed + 1))
  if grep -q -i -E 'damaged|unreadable|panic' "$log"; then fail "kill $killed: a checkpoint was not readable" "$log"; fi
  if [ -n "$(find "$work/cut" -name '*.polar-tmp-*' 2>/dev/null | head -n 1)" ]; then writing=$((writing + 1)); fi
  printf 'kill %d: after %d ms, at step %s\n' "$killed" "$delay" \
    "$(tail -n 1 "$work/cut/metrics.jsonl" 2>/dev/null | sed -n 's/.*"step":\([0-9]*\).*/\1/p')"
done
"$polar" "$1" --resume -o "$work/cut" >"$work/last.log" 2>&1 || fail "the last resumption" "$work/last.log"
compare "$work/last.log"
echo "$kills kills: $resumed runs resumed, $anew began anew, $writing kills left a half-written file; $ended runs came to their end:"
echo "$lines lines of metrics and $compared files of weights are the same bit for bit as undisturbed"
