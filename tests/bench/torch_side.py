"""PyTorch's process of a case of `make bench`:

    python torch_side.py check SEED --mode eager --threads 2
    python torch_side.py time  SEED --mode eager --threads 2 --steps 5 --seconds 8

All compute from the seed file that ldlua wrote and compare every number in it; where one is off by more than the limit
they end with status 3, and nothing is timed, unless --anyway: then they say so and go on. Lines for the driver: kind,
label, value, separated by tabs.

    python torch_side.py window SEED --mode bf16 --device cuda:0 --windows 5 --steps 50 --seconds 15

is `make bench-cuda`'s timing: windows of at least that many steps, fewer where they would take longer than the seconds."""
import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["check", "time", "window"])
parser.add_argument("seed")
parser.add_argument("--mode", default="eager")
parser.add_argument("--device", default="cpu")
parser.add_argument("--windows", type=int, default=5)
parser.add_argument("--anyway", action="store_true")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--seconds", type=float, default=8)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402: OpenMP reads the number of threads when it is loaded
from safetensors import safe_open  # noqa: E402

import torch_works  # noqa: E402
import torch_windows  # noqa: E402

# Relative L2. f32: both sides round every sum differently, Winograd the most, and that stays below 1e-5 in one layer and
# 1e-4 over the depth of these networks. bf16 keeps 8 bits, so each value is off by up to 2^-9 = 2e-3, and that adds up
# over some tens of layers. In the classifier 24 batch norms in a row subtract means larger than the spread that remains,
# and bf16 slopes flip at the kinks of its activations: its seed states another limit for the bf16 gradient. That the
# network is the same one is shown in f32; bf16 is compared so that nonsense is not timed.
LIMIT = {False: 1e-3, True: 2e-2}  # by whether bf16 takes part
# Mean losses of stretches of a training in bf16. With the small U-Net on the CPU: ldlua's f32 is 7e-8 from this one's, its
# bf16 1.9e-4, as far as this one's own autocast to bf16; a learning rate a tenth larger makes 1.4e-2.
CURVE_LIMIT = 5e-3
# Gradients of single tensors are measured against no less than this part of the whole gradient: a bias in front of a
# batch norm has none, and what is computed for it is rounding.
FLOOR = 1e-3


def emit(kind, label, value):
    print(kind, label, f"{value:.9g}" if isinstance(value, float) else value, sep="\t", flush=True)


class Seed:
    def __init__(self, path):
        self.path = path
        with safe_open(path, "pt") as f:
            self.meta, self.names = f.metadata(), list(f.keys())

    def has(self, prefix):
        return any(name.startswith(prefix) for name in self.names)

    def read(self, prefix):
        with safe_open(self.path, "pt") as f:
            for name in self.names:
                if name.startswith(prefix):
                    yield name[len(prefix):], f.get_tensor(name)


def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":"))


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def norm(x):
    return x.double().norm().item()


def same_names(kind, given, wanted):
    if set(given) != set(wanted):
        odd = sorted(set(given) ^ set(wanted))
        raise SystemExit(f"{kind}: {len(odd)} names are on one side only, such as {odd[0]}")


def compare_with(seed, prefix, results, grads, half):
    """Errors by what was compared with the seed's numbers under a prefix; True when all are within the limit."""
    errors = {}
    wanted = {name: x.to(args.device) for name, x in seed.read(prefix + "result.")}
    same_names("results", results, wanted)
    for name, x in wanted.items():
        kind = name.split(".")[0]
        error = norm(results[name].float().reshape(x.shape) - x) / max(norm(x), 1e-30)
        errors[kind] = max(errors.get(kind, 0.0), error)
    wanted = {name: x.to(args.device) for name, x in seed.read(prefix + "grad.")}
    same_names("gradients", grads, wanted)
    if wanted:
        whole = sum(norm(x) ** 2 for x in wanted.values()) ** 0.5
        apart = {name: norm(grads[name].float() - x) for name, x in wanted.items()}
        errors["gradient"] = sum(d * d for d in apart.values()) ** 0.5 / whole
        worst = max(apart, key=lambda name: apart[name] / max(norm(wanted[name]), FLOOR * whole))
        error = apart[worst] / max(norm(wanted[worst]), FLOOR * whole)
        emit("worst", worst, error)
        if not half:
            errors["worst gradient"] = error
    for name, error in errors.items():
        emit("error", prefix.replace(".", " ") + name, error)
    limits = {"gradient": float(seed.meta.get("bf16_gradient_limit", LIMIT[True])), "curve": CURVE_LIMIT} if half else {}
    return all(error < limits.get(name, LIMIT[half]) for name, error in errors.items())


def compare(seed, work):
    """With ldlua's f32 numbers; those it has in bf16 besides (`half.`) are held against this process's f32."""
    if not seed.has("result."):
        emit("unchecked", "", "the seed has no results to compare with")
        return True
    results, grads = work.compute()
    work.wait()
    work.first = torch_windows.since_start()  # compiled and tried out by now
    good = compare_with(seed, "", results, grads, work.half)
    if seed.has("half.") and not work.half:
        good = compare_with(seed, "half.", results, grads, True) and good
    return good


def seconds(f):
    start = time.perf_counter()
    own = f()
    return own if isinstance(own, float) else time.perf_counter() - start


def warm_up(label, f, limit):
    """Until two calls in a row are within a twentieth, at least 2 calls, at most 8 or `limit` seconds."""
    before, spent = None, 0.0
    for _ in range(8):
        t = seconds(f)
        emit("warm", label, t)
        spent += t
        if before is not None and (abs(t - before) <= 0.05 * before or spent > limit):
            break
        before = t


def measure(label, f, steps, limit, base):
    warm_up(label, f, limit)
    reset_peak()
    spent = 0.0
    for n in range(1, steps + 1):
        t = seconds(f)
        emit("time", label, t)
        spent += t
        if n >= 2 and spent > limit:
            break
    peak = status("VmHWM")
    emit("peak", label, peak)
    emit("above", label, peak - base)


def prepare():
    """The device's settings: f32 as it is written, and the fastest convolutions after a trial."""
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    emit("version", "torch", torch.__version__)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        emit("version", "cuDNN", torch.backends.cudnn.version())
        emit("device", "", torch.cuda.get_device_name(device))
    return device


def main():
    if args.mode not in torch_works.MODES:
        raise SystemExit(f"no mode {args.mode}; known: " + " ".join(torch_works.MODES))
    device = prepare()
    base = status("VmRSS")
    emit("threads", "", torch.get_num_threads())
    emit("policy", "", os.environ.get("OMP_WAIT_POLICY", "default"))
    seed = Seed(args.seed)
    work = torch_works.work(seed, args.mode, device)
    if work.graph and device.type != "cuda":
        emit("refused", "", "a CUDA graph needs a CUDA device")
        raise SystemExit(3)
    start = time.perf_counter()
    if not compare(seed, work):
        emit("refused", "", f"relative L2 above {LIMIT[work.half]:g}")
        if not args.anyway:
            raise SystemExit(3)
    emit("check", "seconds", time.perf_counter() - start)
    for label, f in work.series.items():
        if args.what == "time":
            measure(label, f, args.steps, args.seconds / len(work.series), base)
        elif args.what == "window":
            torch_windows.measure(label, f, work, args, emit, len(work.series))


main()
