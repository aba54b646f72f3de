"""LoRA-Muon's step with batched products, for torch and jax.numpy alike: all inverse roots in one batch, polar factors in one batch
for each length. Formulas and settings are those of package optimizer with its defaults, the rate of polarbench."""
import math

from rows import LORA_SCALE

RATE, DECAY, BETA, RIDGE, SAFETY, GUARD = 0.01, 0.01, 0.9, 1e-5, 1.001, 0.5
POLAR = [(7.2086, -15.5131, 9.0178), (3.9623, -2.5813, 0.4542), (3.9466, -2.5765, 0.4544), (3.8991, -2.5671, 0.4566),
         (3.7186, -2.5308, 0.4653), (3.1390, -2.3073, 0.4733), (2.1715, -1.5246, 0.3885), (1.8648, -1.2224, 0.3577)]
ROOT = [(7.424865680309214, -18.39581635618996, 12.896720413604342), (3.4877256051546017, -2.3300436563986993, 0.4404692168431095),
        (2.7766085124882527, -2.070643152532662, 0.46302261050004967), (1.9913142104341506, -1.373936700681269, 0.3875934979568538),
        (1.8754637749479246, -1.2505152090010534, 0.37505152463617264), (1.874999066623701, -1.2499981332141676, 0.37499906659046633),
        (1.875, -1.25, 0.375)]


def norm(x):
    return (x * x).sum(axis=(-2, -1), keepdims=True) ** 0.5


def polar_direct(x, eye):
    """The polar factor of wide x [k, r, m], iterated on x."""
    x = x / norm(x)
    for a, b, c in POLAR:
        g = x @ x.mT
        x = a * x + (b * g + c * (g @ g)) @ x
    return x


def polar_gram(x, eye):
    """The same with the iteration on the Gram matrix, formed anew once as package matfn does."""
    x = x / norm(x)
    for segment in (POLAR[:4], POLAR[4:]):
        g, total = x @ x.mT, None
        for a, b, c in segment:
            q = a * eye + b * g + c * (g @ g)
            total = q if total is None else q @ total
            g = q @ g @ q
        x = total @ x
    return x


def inverse_roots(p, eye):
    f = norm(p)
    q, x = p / f + RIDGE * eye, None
    for a, b, c in ROOT:
        w = (a / SAFETY) * eye + (b / SAFETY**3) * q + (c / SAFETY**5) * (q @ q)
        x = w if x is None else x @ w
        q = q @ (w @ w)
        q = 0.5 * (q + q.mT)
    x = x / f**0.5
    return 1.5 * x - 0.5 * (x @ p @ x) @ x


def product_bound(x, y):
    p = x @ y
    p = p.mT @ p
    f = norm(p)
    p = p / f
    for _ in range(2):
        p = p @ p
    return (f * norm(p) ** 0.25) ** 0.5


def step(xp, polar, groups):
    """groups lists tuples a [k, m, r], b [k, n, r], ma, mb, ga, gb; returns the new a, b, ma and mb of each. xp is torch or jax.numpy."""
    cat = xp.concatenate
    r = groups[0][0].shape[-1]
    eye = xp.eye(r, dtype=groups[0][0].dtype)
    factors = [x for a, b, *_ in groups for x in (a, b)]
    roots = inverse_roots(cat([x.mT @ x for x in factors]), eye)
    sides, at = [], 0
    for x in factors:
        sides.append(roots[at:at + x.shape[0]])
        at += x.shape[0]
    moments, wide = [], {}
    for i, (a, b, ma, mb, ga, gb) in enumerate(groups):
        ra, rb = sides[2 * i], sides[2 * i + 1]
        ma, mb = BETA * ma + (1 - BETA) * ga, BETA * mb + (1 - BETA) * gb
        moments.append((ma, mb))
        wide.setdefault(a.shape[1], []).append((i, 0, rb @ ma.mT))
        wide.setdefault(b.shape[1], []).append((i, 1, ra @ mb.mT))
    directions = {}
    for members in wide.values():
        u, at = polar(cat([x for _, _, x in members]), eye), 0
        for i, side, x in members:
            directions[i, side] = u[at:at + x.shape[0]]
            at += x.shape[0]
    out, k = [], math.sqrt(1 - DECAY * RATE)
    for i, (a, b, *_) in enumerate(groups):
        ra, rb = sides[2 * i], sides[2 * i + 1]
        eta = RATE * math.sqrt(a.shape[1] / b.shape[1]) / LORA_SCALE
        half = 0.5 * eta / k
        guard = (GUARD / (0.25 * eta * product_bound(ra, rb)).clip(GUARD)) ** 2
        da, db = (half * guard * rb) @ directions[i, 0], (half * ra) @ directions[i, 1]
        out.append((k * a - da.mT, k * b - db.mT, *moments[i]))
    return out


def grouped(names):
    """Names of factors A and B of layers, grouped by the layers' shape: lists of layer names."""
    groups = {}
    for layer, shape in names.items():
        groups.setdefault(shape, []).append(layer)
    return list(groups.values())
