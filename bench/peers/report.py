"""The table, in Markdown."""
import os
import platform
import time

from rows import MEMORY_TARGET, SHARE_TARGET


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def milliseconds(seconds):
    return f"{1e3 * seconds:.4g}"


def best(everyone, library):
    """The fastest variant of a library that was timed in the rounds."""
    timed = [c for c in everyone if c.library == library and c.times and not c.absent]
    return min(timed, key=lambda c: c.median()) if timed else None


def flops_of(everyone):
    return next((c.hello["flops"] for c in everyone if c.hello.get("flops")), 0.0)


def line(row, c, everyone, peak):
    if c.absent:
        return f"| {c.title} | absent | | | | | | |"
    low, high = c.quartiles()
    rate = flops_of(everyone) / c.median() / 1e9
    polar, half = best(everyone, "polar"), best(everyone, "polar:bf16")
    cells = [c.title, milliseconds(c.median()), f"{milliseconds(low)} to {milliseconds(high)}" if c.times else "alone, not in rounds",
             f"{rate:.1f}", f"{100 * rate / peak:.0f} %" if peak else ""]
    for own in (polar, half):
        cells.append(f"{c.median() / own.median():.2f}" if own and own is not c and c.median() else "")
    cells.append(f"{c.peak / 1024:.0f}")
    return "| " + " | ".join(cells) + " |"


def verdict(name, ratio, target, more=True):
    met = ratio >= target if more else ratio <= target
    return f"{name}: {ratio:.3g}, asked {'≥' if more else '≤'} {target:g}: {'met' if met else 'missed'}."


def notes(row, everyone, peak):
    """What the row says about what was asked, one sentence each."""
    out, polar, half = [], best(everyone, "polar"), best(everyone, "polar:bf16")
    for own, targets, label in ((polar, row.targets, "polar"), (half, row.bf16 or {}, "polar:bf16")):
        for library, target in targets.items() if own else []:
            other = best(everyone, library)
            if other:
                out.append(verdict(f"{other.title} / {label}", other.median() / own.median(), target))
                bound = flops_of(everyone) / (peak * 1e9) if peak else 0
                if label == "polar" and bound and other.median() / target < bound:
                    out.append(f"That target is {milliseconds(other.median() / target)} ms, less than the operations take at the measured "
                               f"peak, {milliseconds(bound)} ms.")
    for own in filter(None, (polar, half)):
        for library in ("torch", "jax"):
            other = best(everyone, library)
            if row.name == "lora" and other and other.peak:
                out.append(verdict(f"peak memory, {own.title} / {other.title}", own.peak / other.peak, MEMORY_TARGET, False))
    for c in everyone:
        if not c.absent and c.times and c.part("optimizer") and row.name == "lora":
            share = c.part("optimizer") / c.median()
            text = f"{c.title}: gradient {milliseconds(c.part('gradient'))} ms, optimizer {milliseconds(c.part('optimizer'))} ms"
            out.append(verdict(text + ", its share of the step", share, SHARE_TARGET, False) if c is polar else text + ".")
    if polar and half:
        n = max(set(polar.losses) & set(half.losses))
        a, b = polar.losses[n], half.losses[n]
        out.append(f"Loss after {n - 1} steps: polar {a:.6f}, polar:bf16 {b:.6f}, difference {b - a:+.1e}.")
    out += [f"{c.title} is absent: {c.absent}." for c in everyone if c.absent]
    return out


def markdown(results, options, command):
    peak, source = options.peak, "a loop of fused multiply-adds on registers"
    if not peak:
        rates = [flops_of(e) / c.median() / 1e9 for row, e in results if row.name.startswith("product") for c in e if c.times]
        peak, source = (max(rates), "the fastest product of this run") if rates else (0.0, "")
    versions = ", ".join(f"{k} {v}" for k, v in sorted(options.versions.items()))
    counts = sorted({len(c.times) for _, everyone in results for c in everyone if c.times})
    total, noisy = (sum(f(c) for _, everyone in results for c in everyone) for f in (lambda c: len(c.times), lambda c: c.noisy))
    out = ["# Beside PyTorch, JAX and OpenBLAS", "",
           f"{time.strftime('%Y-%m-%d')}, {processor()}, {options.args.threads} threads on cores {', '.join(map(str, options.cores))} of "
           f"{os.cpu_count()}, {platform.system()} {platform.release()}; {versions}; Python {platform.python_version()}.",
           f"Peak of float32: {peak:.0f} GFLOP/s, by {source}." if peak else "No peak was measured.",
           f"Medians and quartiles of {' or '.join(map(str, counts))} interleaved repetitions; each contender is a process of its own, and "
           f"the others sleep meanwhile. Other work took more than 5 % of the cores during {noisy} of {total} repetitions, after retries. "
           "float32 throughout, but for `polar:bf16`.",
           "`polar` is built by plain `go build`, `go` with GOEXPERIMENT=simd. Ratios are the line's time over Polar's: above 1 Polar is "
           "faster. Peak memory is that of the process since its weights were there, libraries included.", "", f"    {command}", ""]
    for row, everyone in results:
        out += [f"## {row.title}", "", f"{flops_of(everyone) / 1e9:.3g} GFLOP a step.", "",
                "| by | ms | quartiles | GFLOP/s | of peak | / polar | / polar:bf16 | peak MiB |", "|---|---|---|---|---|---|---|---|"]
        out += [line(row, c, everyone, peak) for c in everyone]
        out += [""] + [f"- {note}" for note in notes(row, everyone, peak)] + [""]
    if not options.plugin and any(row.xla for row, _ in results):
        out += ["xla:cpu is absent: no PJRT CPU plugin was given (the wheel fastatomstruct-xla-cpu on PyPI has one).", ""]
    return "\n".join(out)
