#!/usr/bin/env python3
"""Matrix functions of package matfn against the SVD route in numpy and jax, on the same cores.

    GOEXPERIMENT=simd go test -c -o /tmp/matfn.test ./matfn
    python3 bench/matfn_peers.py /tmp/matfn.test --rounds 7 --out bench/results/matfn-speed.md

Rounds are interleaved: each measures every case once with every library, so that other load on the machine hits all of them. Times are
medians over rounds (smallest to largest) on the wall clock, and the ratio is that of the medians (of the smallest). Use a quiet machine,
or as root `chrt -f 10` before python3 and --pause: the SVDs wait in spinning threads and suffer most from other load. Needs numpy; jax if
installed.
"""
import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("binary", help="the test binary of ./matfn")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--pause", type=float, default=0, help="seconds between rounds, for who else uses the machine")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--shapes", default="128x32,256x256,512x512,1024x1024,1024x4096,2048x2048")
parser.add_argument("--out", help="file for the table; without it the terminal")
args = parser.parse_args()

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(args.threads)
os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[: args.threads]))  # before the libraries count cores

import numpy as np  # noqa: E402

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None

shapes = [tuple(map(int, s.split("x"))) for s in args.shapes.split(",")]
CAP = 20.0
rng = np.random.default_rng(0)
inputs = {s: rng.standard_normal(s).astype(np.float32) for s in shapes}


def numpy_msign(x):
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt


def numpy_hardcap(x):
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return (u * np.minimum(s, CAP)) @ vt


def timed(fn):
    """Runs fn until 0.3 s have passed; returns the seconds of one call."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < 0.3:
        fn()
        calls += 1
    return (time.perf_counter() - start) / calls


peaks = []


def go_timed(benchmark, shape, form):
    """Seconds of one call of a Go benchmark, over about 0.3 s after a warm-up."""
    name = "^Benchmark%s$/^1x%dx%d$/^f32$/^%s$" % (benchmark, *shape, form)
    out = subprocess.run(
        [args.binary, "-test.run=^$", f"-test.bench={name}", "-test.benchtime=0.3s"],
        check=True, capture_output=True, text=True, env=dict(os.environ, GOMAXPROCS=str(args.threads)),
    ).stdout
    share, rate = float(re.search(r"([\d.]+) %peak", out)[1]), float(re.search(r"([\d.]+) GFLOP/s", out)[1])
    peaks.append(100 * rate / share)
    return float(re.search(r"([\d.e+]+) ns/op", out)[1]) * 1e-9


cases = []  # (function, shape, library, callable)
for shape in shapes:
    x = inputs[shape]
    m, n = shape
    cases.append(("msign", shape, "polar", lambda s=shape: go_timed("Msign", s, "auto")))
    cases.append(("msign", shape, "numpy SVD", lambda x=x: timed(lambda: numpy_msign(x))))
    for form in ("projected", "nested", "blockwise"):
        if form == "blockwise" and max(shape) > 1024:
            continue  # 9 s a call at 2048 x 2048, a minute at 1024 x 4096
        cases.append(("hardcap", shape, "polar " + form, lambda s=shape, f=form: go_timed("Hardcap", s, f)))
    cases.append(("hardcap", shape, "numpy SVD", lambda x=x: timed(lambda: numpy_hardcap(x))))
    if jax:
        y = jnp.asarray(x)

        def svd_msign(x):
            u, _, vt = jnp.linalg.svd(x, full_matrices=False)
            return u @ vt

        def svd_hardcap(x):
            u, s, vt = jnp.linalg.svd(x, full_matrices=False)
            return (u * jnp.minimum(s, CAP)) @ vt

        for name, fn in (("msign", jax.jit(svd_msign)), ("hardcap", jax.jit(svd_hardcap))):
            fn(y).block_until_ready()
            cases.append((name, shape, "jax SVD", lambda f=fn, y=y: timed(lambda: f(y).block_until_ready())))

measured = {case[:3]: [] for case in cases}
loads = []
for round_ in range(args.rounds):
    for case in cases:
        measured[case[:3]].append(case[3]())
    loads.append(os.getloadavg()[0])
    if round_ + 1 < args.rounds:
        time.sleep(args.pause)
    print(f"round {round_ + 1} of {args.rounds}, load {loads[-1]:.1f}", file=sys.stderr)


def cell(key):
    times = [1e3 * t for t in measured[key]]
    return "%.3g (%.3g–%.3g)" % (statistics.median(times), min(times), max(times))


def ratio(mine, theirs):
    if theirs not in measured:
        return "–"
    return "%.2g (%.2g)" % (
        statistics.median(measured[theirs]) / statistics.median(measured[mine]), min(measured[theirs]) / min(measured[mine]))


lines = ["| function | shape | by | ms | numpy / it | jax / it |", "|---|---|---|---|---|---|"]
for key in sorted(measured, key=lambda k: (k[0] != "msign", shapes.index(k[1]), k[2])):
    function, shape, library = key
    ratios = ["", ""]
    if library.startswith("polar"):
        ratios = [ratio(key, (function, shape, other)) for other in ("numpy SVD", "jax SVD")]
    lines.append("| %s | %dx%d | %s | %s | %s |" % (function, *shape, library, cell(key), " | ".join(ratios)))

versions = ["Python " + platform.python_version(), "numpy " + np.__version__]
try:
    versions.append(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])
except (KeyError, TypeError):
    pass
if jax:
    versions.append("jax " + jax.__version__)
cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
text = """# Speed of the matrix functions against the SVD route

%s, float32, %d threads on %d cores of %s, %s. Go's products of 1024 x 1024 reach %.0f GFLOP/s (median of the processes).
%d interleaved rounds%s; medians (smallest to largest); ratios of the
medians (of the smallest). Written by

    GOEXPERIMENT=simd go test -c -o /tmp/matfn.test ./matfn
    python3 bench/matfn_peers.py /tmp/matfn.test --rounds %d --out bench/results/matfn-speed.md

%s
""" % (time.strftime("%Y-%m-%d"), args.threads, len(os.sched_getaffinity(0)), cpu, ", ".join(versions),
       statistics.median(peaks), args.rounds,
       ", at real-time priority" if os.sched_getscheduler(0) != os.SCHED_OTHER else ", load average %.1f to %.1f" % (min(loads), max(loads)),
       args.rounds, "\n".join(lines))
if args.out:
    with open(args.out, "w") as f:
        f.write(text)
else:
    print(text)
