#!/usr/bin/env bash
# Trains in a small file system that is full before the run is done. The run has to stop with one clear line and a status
# that is not 0, and leave a checkpoint that a run with more room continues from, to the numbers of an undisturbed run.
#
#   bench/diskfull.sh [-p POLAR]
#
# Needs root (it mounts a tmpfs and enlarges it), bash, Go and GNU coreutils. Exits with 1 if anything is not so.
set -euo pipefail
cd "$(dirname "$0")/.."
polar=
while getopts p: option; do
  case $option in
    p) polar=$(realpath "$OPTARG") ;;
    *) exit 2 ;;
  esac
done
work=$(mktemp -d)
disk=$work/disk
mkdir "$disk"
trap 'umount "$disk" 2>/dev/null || true; rm -rf "$work"' EXIT
if [ -z "$polar" ]; then
  polar=$work/polar
  GOEXPERIMENT=simd go build -o "$polar" ./cmd/polar
fi
fail() { printf 'FAILED: %s\n' "$1"; [ -z "${2:-}" ] || tail -n 20 "$2"; exit 1; }
command=(train --data "$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt" --layers 2 --hidden 128 --length 32 --batch 4
  --steps 40 --save-every 10 --eval-every 20 --eval-batches 1 --sample-tokens 0)
numbers() { sed -E 's/,"(seconds|tokens_per_second)":[^,}]*//g' "$1/metrics.jsonl"; }

"$polar" "${command[@]}" -o "$work/whole" >"$work/whole.log" 2>&1 || fail "the undisturbed run" "$work/whole.log"
checkpoint=$(du -sk "$work/whole/checkpoints" | cut -f 1)
checkpoint=$((checkpoint / $(find "$work/whole/checkpoints" -mindepth 1 -maxdepth 1 -type d | wc -l)))
echo "undisturbed run: done; a checkpoint takes $checkpoint KiB"

# attempt SIZE: trains on a disk of SIZE KiB that is too small, then on a larger one.
attempt() {
  mount -t tmpfs -o "size=$1k" polar-diskfull "$disk"
  local status=0
  "$polar" "${command[@]}" -o "$disk/run" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" -ne 0 ] || fail "a disk of $1 KiB was large enough: the test measures nothing"
  local message
  message=$(grep -i 'no space left on device' "$work/err" || true)
  [ -n "$message" ] || fail "no line says that the disk is full" "$work/err"
  if grep -q -E '^(panic|goroutine) ' "$work/err"; then fail "a panic" "$work/err"; fi
  echo "disk of $1 KiB: status $status, $(find "$disk/run/checkpoints" -name state.json 2>/dev/null | wc -l) checkpoints left"
  printf '    %s\n' "$message"
  if [ -n "$(find "$disk/run/checkpoints" -name state.json 2>/dev/null | head -n 1)" ]; then
    mount -o remount,size=1g "$disk"
    "$polar" train --resume -o "$disk/run" >"$work/resume.log" 2>&1 || fail "the run did not go on with more room" "$work/resume.log"
    if grep -q -i -E 'damaged|unreadable' "$work/resume.log"; then fail "the previous checkpoint was not intact" "$work/resume.log"; fi
    diff <(numbers "$work/whole") <(numbers "$disk/run") >"$work/difference.txt" || fail "the metrics differ" "$work/difference.txt"
    cmp "$work/whole/model/model.safetensors" "$disk/run/model/model.safetensors" || fail "the exported weights differ"
    echo "    with more room it ended with the undisturbed run's losses and weights, bit for bit"
    resumed=$((resumed + 1))
  fi
  umount "$disk"
}

resumed=0
for tenths in 5 15 25; do # full during the first checkpoint, the second, the third
  attempt $((checkpoint * tenths / 10 + 16))
done
[ "$resumed" -eq 2 ] || fail "$resumed of the runs left a checkpoint to continue from, want 2"
echo "ok"
