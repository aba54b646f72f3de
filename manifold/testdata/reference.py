"""Optima of small direction problems, for TestOptimum.

    min <G, D>   over   ‖D‖ <= 1,  D in the tangent cone of a set at W

Each is given to a generic convex solver as a semidefinite program (Clarabel, an interior point method) and once more to another
(SCS, a splitting method) that must agree. The cone is written in bases of singular vectors from numpy's SVD; W and G are what
the file holds, rounded to float32.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 cvxpy==1.9.3 clarabel==0.11.1 scs==3.3.1
    venv/bin/python manifold/testdata/reference.py > manifold/testdata/reference.json
"""

import json
import platform
import sys
import warnings

import clarabel
import cvxpy
import numpy as np
import scs

TOL = 1e-3  # DefaultTol: what counts as at a bound
rng = np.random.default_rng(2026)


def orthonormal(m, n):
    return np.linalg.qr(rng.standard_normal((m, n)))[0]


def float32(x):
    return x.astype(np.float32).astype(np.float64)


def positions(kind, k):
    """Values between a lower bound 0 and an upper bound 1."""
    inside = np.linspace(0.2, 0.8, k)
    third = k // 3
    return {
        "lower": np.zeros(k),
        "upper": np.ones(k),
        "both": np.r_[np.zeros(k // 2), np.ones(k - k // 2)],
        "inside": inside,
        "mixed": np.r_[np.zeros(third), np.ones(third), inside[: k - 2 * third]],
    }[kind]


def weight(name, lo, hi, m, n, kind):
    k = min(m, n)
    values = lo + (hi - lo) * positions(kind, k)
    if name in ("psd", "spectrahedron"):
        q = orthonormal(m, m)
        w = (q * values) @ q.T
        return float32((w + w.T) / 2)
    return float32((orthonormal(m, k) * values) @ orthonormal(n, k).T)


def faces(name, lo, hi, w):
    """Bases at the bounds, with the sign that sym(Uᵀ D V) may not have: +1 at an upper bound, -1 at a lower, 0 at both."""
    if name in ("psd", "spectrahedron"):
        values, q = np.linalg.eigh(w)
        u = v = q
        width = TOL * (values.max() if name == "psd" else hi - lo)
        at_lo = values <= lo + width
        at_hi = values > hi - width if name == "spectrahedron" else np.zeros(len(values), bool)
    else:
        u, values, vt = np.linalg.svd(w, full_matrices=False)
        v = vt.T
        at_lo = (values / lo) ** 2 <= 1 + TOL if lo > 0 else np.zeros(len(values), bool)
        at_hi = (values / hi) ** 2 > 1 - TOL
    if name == "stiefel":
        return [(u, v, 0)]
    return [(u[:, at], v[:, at], sign) for at, sign in ((at_lo, -1), (at_hi, 1)) if at.any()]


def optimum(name, lo, hi, w, g, norm):
    symmetric = name in ("psd", "spectrahedron")
    d = cvxpy.Variable(w.shape, symmetric=symmetric)
    constraints = [(cvxpy.sigma_max(d) if norm == "spectral" else cvxpy.norm(d, "fro")) <= 1]
    for u, v, sign in faces(name, lo, hi, w):
        block = u.T @ d @ v
        half = (block + block.T) / 2
        once = np.triu_indices(half.shape[0])
        constraints.append(half[once] == 0 if sign == 0 else -sign * half >> 0)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.multiply(g, d))), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Clarabel calls inaccurate is held against SCS
        first = problem.solve(solver=cvxpy.CLARABEL)
    status = problem.status
    second = problem.solve(solver=cvxpy.SCS, eps=1e-7, max_iters=100000)
    return float(first), float(second), status


def gradient(kind, w):
    m, n = w.shape
    noise = rng.standard_normal((m, n))
    if kind == "outward":  # the step that wants to leave the set
        noise = -w / np.linalg.norm(w) * np.sqrt(m * n) - 0.5 * noise
    elif kind == "rank 2":
        noise = rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    return float32(noise)


def main():
    problems = []
    sets = [
        ("ball", 0.0, 1.5, ("upper", "mixed", "inside")),
        ("band", 1.0, 2.0, ("lower", "upper", "both", "mixed", "inside")),
        ("stiefel", 1.0, 1.0, ("upper",)),
        ("psd", 0.0, 1.0, ("lower", "mixed", "upper")),
        ("spectrahedron", -1.0, 1.0, ("lower", "both", "mixed", "inside")),
    ]
    for m, n in ((12, 8), (8, 12), (10, 10)):
        for name, lo, hi, kinds in sets:
            if m != n and name in ("psd", "spectrahedron"):
                continue
            for kind in kinds:
                for number, source in enumerate(("gaussian", "outward", "rank 2")):
                    norms = ["spectral", "frobenius"] if (m, number) == (10, 0) else ["spectral"]
                    if source == "rank 2" and kind not in ("mixed", "both"):
                        continue
                    w = weight(name, lo, hi, m, n, kind)
                    if name == "psd" and kind == "lower":
                        w = np.zeros((m, m))
                    g = gradient(source, w) if w.any() else float32(rng.standard_normal((m, n)))
                    for norm in norms:
                        value, other, status = optimum(name, lo, hi, w, g, norm)
                        if abs(value) < 1e-3 * np.linalg.norm(g):
                            continue  # there is no way down, and nothing to be within 1 % of
                        apart = abs(value - other) / abs(value)
                        label = f"{name} {m}x{n} {kind} {source} {norm}"
                        print(f"{label:45s} {value:12.7f} {status}, SCS apart {apart:.1e}", file=sys.stderr)
                        if apart > 1e-5:
                            sys.exit(f"{label}: the solvers do not agree")
                        problems.append({
                            "name": label, "set": name, "lo": lo, "hi": hi, "norm": norm, "m": m, "n": n,
                            "w": [float(f"{x:.9g}") for x in w.ravel()], "g": [float(f"{x:.9g}") for x in g.ravel()],
                            "optimum": value, "second_opinion": other,
                        })
    header = {
        "how": "manifold/testdata/reference.py", "python": platform.python_version(), "numpy": np.__version__,
        "cvxpy": cvxpy.__version__, "clarabel": clarabel.__version__, "scs": scs.__version__,
    }
    print(json.dumps(header)[:-1] + ', "problems": [\n' + ",\n".join(json.dumps(p) for p in problems) + "\n]}")


main()
