#!/usr/bin/env python3
"""Writes tests/fixtures/metrics.safetensors: features, pictures and what the metrics make of them by their definitions,
in f64 with NumPy alone. Needs numpy and safetensors; tests/lua/test_metrics.lua reads the file.

    python3 tests/tools/make_metrics_fixture.py
"""
import numpy as np
from safetensors.numpy import save_file

rng = np.random.default_rng(5)


def frechet(x, y):
    """|m1 - m2|^2 + tr C1 + tr C2 - 2 tr sqrt(C1 C2); with centred rows X, Y the last trace is the sum of the singular
    values of X Y'/sqrt((n - 1)(m - 1)), also where the covariances are singular."""
    a, b = (v - v.mean(0) for v in (x, y))
    a, b = a / np.sqrt(len(a) - 1), b / np.sqrt(len(b) - 1)
    common = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a ** 2).sum() + (b ** 2).sum() - 2 * common


def mmd2(x, y):
    def k(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3
    def others(a):
        n = len(a)
        kk = k(a, a)
        return (kk.sum() - np.trace(kk)) / (n * (n - 1))
    return others(x) + others(y) - 2 * k(x, y).mean()


def precision_recall(real, made, k):
    def apart(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))
    def radius(a):
        return np.sort(apart(a, a), 1)[:, k]  # position 0 is the row itself
    def inside(a, b):
        return (apart(a, b) <= radius(b)[None]).any(1).mean()
    return inside(made, real), inside(real, made)


def ssim(x, y):
    """One channel in [0,1], window by window."""
    at = np.arange(11) - 5
    g = np.exp(-(at ** 2) / (2 * 1.5 ** 2))
    w = np.outer(g, g) / g.sum() ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i:i + 11, j:j + 11], y[i:i + 11, j:j + 11]
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb, vab = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + 1e-4) * (2 * vab + 9e-4) / ((ma ** 2 + mb ** 2 + 1e-4) * (va + vb + 9e-4)))
    return np.mean(values)


x = rng.normal(size=(60, 8)).astype(np.float32)
y = (0.8 * rng.normal(size=(47, 8)) + 0.4).astype(np.float32)
wide = rng.normal(size=(20, 33)).astype(np.float32)  # fewer rows than features: singular covariances
wide2 = (rng.normal(size=(25, 33)) * 1.3).astype(np.float32)
d, e, f, g = (v.astype(np.float64) for v in (x, y, wide, wide2))
a = np.clip(rng.normal(size=(2, 3, 24, 20)).cumsum(3) * 20 + 128, 0, 255).astype(np.uint8)
b = np.clip(a + rng.normal(size=a.shape) * np.array([5, 40])[:, None, None, None], 0, 255).astype(np.uint8)
p, q = a / 255.0, b / 255.0
out = {'x': x, 'y': y, 'wide.x': wide, 'wide.y': wide2, 'picture.x': a, 'picture.y': b,
       'frechet': frechet(d, e), 'wide.frechet': frechet(f, g), 'mmd2': mmd2(d, e),
       'precision_recall.1': precision_recall(d, e, 1), 'precision_recall.3': precision_recall(d, e, 3),
       'wide.precision_recall.3': precision_recall(f, g, 3),
       'psnr': [-10 * np.log10(((p[i] - q[i]) ** 2).mean()) for i in range(2)],
       'ssim': [np.mean([ssim(p[i, c], q[i, c]) for c in range(3)]) for i in range(2)]}
save_file({k: v if isinstance(v, np.ndarray) else np.atleast_1d(np.float64(v)) for k, v in out.items()},
          'tests/fixtures/metrics.safetensors')
