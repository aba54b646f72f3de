"""One library at one row, as a process that takes a step when told to. Started by drive.py:

    python3 contender.py LIBRARY VARIANT ROW DATA

Orders come on standard input, one a line, and each is answered by a line of JSON: "steps N" takes N steps and gives the mean time,
the last loss (before its step) and, after the first step, the gradient's norm; "updates FILE" takes one step and writes what it
did; "peak" gives the peak of resident memory since the weights were there; "versions" gives the versions.
"""
import importlib
import json
import os
import sys
import time


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def peak_kib():
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return 0


def steps(work, count):
    """Takes count steps; means of the times of the parts and of the whole."""
    whole, parts, answer = 0.0, {}, {}
    for _ in range(count):
        start = last = time.perf_counter()
        marks = []

        def mark(name):
            nonlocal last
            now = time.perf_counter()
            marks.append((name, now - last))
            last = now

        answer = work.step(mark)
        whole += time.perf_counter() - start
        for name, seconds in marks:
            parts[name] = parts.get(name, 0.0) + seconds / count
    answer["seconds"] = whole / count
    answer["parts"] = [{"name": n, "seconds": s} for n, s in parts.items()]
    return answer


def main():
    library, variant, row, data = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    module = importlib.import_module({"openblas": "numpy_rows"}.get(library, library + "_rows"))
    work = module.open_row(row, variant, data)
    reset_peak()
    answers.write("{}\n")
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        try:
            if order == "steps":
                answer = steps(work, int(argument))
            elif order == "updates":
                answer = work.updates(argument) or {}
            elif order == "peak":
                answer = {"peak_kib": peak_kib()}
            elif order == "versions":
                answer = {"versions": module.versions()}
            else:
                answer = {"error": "unknown order " + order}
        except Exception as err:  # the driver leaves this contender out, and says why
            answer = {"error": f"{type(err).__name__}: {err}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
