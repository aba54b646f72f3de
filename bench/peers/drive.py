#!/usr/bin/env python3
"""Times Polar beside other libraries and prints one table. `make bench-peers` prepares what it needs and calls it:

    bench/peers/drive.py --python VENV/bin/python --cache FOLDER [--quick] [--only ROW] [--out FILE]

Each contender is a process of its own that takes steps when told to, all on the same cores with as many threads, one at a time,
in rounds; the others are seen to be asleep. Before timing, losses, gradients and updates are compared: a difference ends the run.
"""
import argparse
import glob
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import arrays  # noqa: E402
import process  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402

LOSS_TOLERANCE = 1e-4  # relative; 5e-7 between the libraries when measured
NORM_TOLERANCE = 1e-3  # of the gradient's norm, relative; 1e-6 when measured
UPDATE_TOLERANCE = 1e-3  # of a factor's step in the Frobenius norm, relative; 3e-5 when measured
BF16_TOLERANCE = 2e-2  # of the first loss with bfloat16 products
WARM, FILL = 1.0, 0.1  # a step shorter than WARM seconds follows one that is not timed; steps are repeated until they take FILL


def contenders(row, options):
    """All contenders of a row, Polar first."""
    out = [process.Contender("polar", "", options.go(row, "polar", "plain"))]
    if row.direct:
        out.append(process.Contender("gemm", "package alone", options.go(row, "gemm", "plain")))
    if row.bf16 is not None:
        out.append(process.Contender("polar:bf16", "", options.go(row, "polar:bf16", "plain")))
    for library, variants in row.peers.items():
        for variant in variants:
            command = [options.python, os.path.join(options.here, "contender.py"), library, variant, row.name, options.data(row)]
            out.append(process.Contender(library, variant, command))
    if row.xla and options.plugin:
        env = {"GOMLX_NO_AUTO_INSTALL": "1", "PJRT_PLUGIN_LIBRARY_PATH": options.plugin}
        out.append(process.Contender("xla:cpu", "", options.go(row, "xla:cpu", "xla"), env))
    if row.go:
        out.append(process.Contender("go", "", options.go(row, "go:ops_sequential,creation_order", "simd")))
    return out


def compare(row, reference, c):
    """Ends the run when c computes something else than the reference."""
    def close(what, a, b, tolerance):
        if not abs(a - b) <= tolerance * abs(a):
            sys.exit(f"{row.name}: {what} of {c.title} is {b}, of {reference.title} {a}: they do not compute the same")

    bf16 = "bf16" in c.title or "bf16" in reference.title
    if row.check == "updates":
        a, b = arrays.read(reference.updates), arrays.read(c.updates)
        if set(a) != set(b):
            sys.exit(f"{row.name}: {c.title} and {reference.title} have different parameters")
        worst = max(float(((a[n] - b[n]) ** 2).sum() / (a[n] ** 2).sum()) ** 0.5 for n in a)
        if not worst <= UPDATE_TOLERANCE:
            sys.exit(f"{row.name}: a step of {c.title} differs from that of {reference.title} by {worst:.1e}")
    elif row.check:
        for i in sorted(set(reference.losses) & set(c.losses)):
            if row.check == "losses" or i == 1:  # after that the optimizers differ
                close(f"the loss of step {i}", reference.losses[i], c.losses[i], BF16_TOLERANCE if bf16 else LOSS_TOLERANCE)
        if row.check == "gradient":
            close("the norm of the gradient", reference.norm, c.norm, BF16_TOLERANCE if bf16 else NORM_TOLERANCE)


def prepare(row, c, reference, options):
    """Starts a contender, compares what it computes and warms it up. Returns whether it takes part."""
    try:
        c.start()
        if row.check == "updates":
            c.updates = os.path.join(options.cache, f"updates-{c.library}-{c.variant}.safetensors".replace(":", "-"))
            c.order("updates " + c.updates, row.wait)
        for _ in range(3 if row.check == "losses" else 2):
            c.steps(1, row.wait)
    except process.Failed as err:
        c.stop()
        c.absent = str(err)
        print(f"  {c.title}: left out: {err}", file=sys.stderr)
        return False
    if c.library == "polar":
        options.peak = max(options.peak, c.order("rate")["rate"])
    if reference:
        compare(row, reference, c)
    c.warm, c.repeat = c.seconds < WARM, max(1, round(FILL / c.seconds))
    c.asleep()
    print(f"  {c.title}: {1e3 * c.seconds:.3g} ms", file=sys.stderr)
    return True


def measure(row, options):
    """Times one row; returns its contenders."""
    print(row.name, file=sys.stderr)
    options.write(row)
    everyone, running, reference = contenders(row, options), [], None
    try:
        for c in everyone:
            if not prepare(row, c, reference, options):
                continue
            reference = reference or c
            if c.library == "polar:bf16" and reference.library == "polar":
                c.repeat = reference.repeat  # so that losses of the same step can be compared
            rival = next((o for o in running if o.library == c.library), None)
            if rival and row.name == "lora":  # the memory does not hold all: the faster one goes on
                slower = max(rival, c, key=lambda o: o.seconds)
                slower.alone, slower.peak = slower.seconds, slower.order("peak")["peak_kib"]
                slower.stop()
                running = [o for o in running if o is not slower] + ([] if slower is c else [c])
            else:
                running.append(c)
        for i in range(options.reps(row, running)):
            for c in running[i % len(running):] + running[:i % len(running)]:
                if c.absent:
                    continue
                try:
                    c.turn(row.wait)
                except process.Failed as err:
                    c.absent = str(err)
        for c in running:
            if not c.absent:
                c.peak = c.order("peak")["peak_kib"]
                if c.library in ("torch", "jax", "openblas"):
                    options.versions.update(c.order("versions")["versions"])
    finally:
        for c in everyone:
            c.stop()
        options.remove(row)
    return everyone


class Options:
    def __init__(self, args):
        self.args, self.here = args, os.path.dirname(os.path.abspath(__file__))
        self.python, self.cache = args.python, args.cache
        self.plugin = args.plugin if args.plugin and glob.glob(os.path.join(args.plugin, "pjrt_c_api_cpu_plugin.so")) else ""
        self.versions, self.peak = {}, 0.0
        self.cores = process.choose_cores(args.threads)

    def go(self, row, backend, build):
        program = os.path.join(self.cache, "polarbench-" + build)
        return [program, "--row", row.name, "--backend", backend, "--threads", str(self.args.threads), "--serve"]

    def data(self, row):
        return os.path.join(self.cache, row.name.replace(":", "-") + ".safetensors")

    def write(self, row):
        process.run([os.path.join(self.cache, "polarbench-simd"), "--row", row.name, "--backend", "go", "--data", self.data(row)])

    def remove(self, row):
        for path in [self.data(row)] + glob.glob(os.path.join(self.cache, "updates-*.safetensors")):
            if os.path.exists(path):
                os.remove(path)

    def reps(self, row, running):
        if self.args.reps:
            return self.args.reps
        slowest = statistics.median([c.seconds for c in running] or [1])
        if slowest > 1:
            return 3 if self.args.quick else 7
        return 5 if self.args.quick else 21


def made_by(args):
    """The command that repeats this run."""
    given = ["--quick"] if args.quick else []
    given += [f"--reps {args.reps}"] if args.reps else []
    given += [f"--threads {args.threads}"] if args.threads != 2 else []
    given += [f"--only {row}" for row in args.only or []]
    return "make bench-peers" + (f' ARGS="{" ".join(given)}"' if given else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="Python of the environment with the libraries")
    parser.add_argument("--cache", required=True, help="folder of the programs, and for weights")
    parser.add_argument("--plugin", default="", help="folder of pjrt_c_api_cpu_plugin.so, for the rows of xla:cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reps", type=int, default=0, help="timed repetitions of each contender")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", action="append", help="a row, or the beginning of its name; may be given several times")
    parser.add_argument("--out", help="file for the table; it is printed as well")
    args = parser.parse_args()
    chosen = [r for r in rows.ROWS if not args.only or any(r.name.startswith(o) for o in args.only)]
    if not chosen:
        parser.error("no such row; known are " + ", ".join(r.name for r in rows.ROWS))
    options = Options(args)
    process.environment(args.threads, options.cores)
    results = [(row, measure(row, options)) for row in chosen]
    text = report.markdown(results, options, made_by(args))
    print(text)
    if args.out:
        with open(args.out, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
