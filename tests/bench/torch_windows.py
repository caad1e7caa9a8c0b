"""Windows of steps on a device, the same on both sides (timing.lua): warm-up until two windows in a row are within a
twentieth, then --windows of --steps steps, each ended by waiting for the device; fewer steps where they would take longer
than the seconds. Before them the time from the start of the process to the end of the first step, which is that of the
comparison where there was one; after them, memory and kernels."""
import os
import time

import torch

import torch_works


def since_start():
    """Seconds since this process began."""
    with open("/proc/self/stat") as f:
        started = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as f:
        return float(f.read().split()[0]) - started


def window(f, work, n):
    """Seconds a call: of n calls, or what the function counted itself."""
    start, own = time.perf_counter(), 0.0
    for _ in range(n):
        t = f()
        own += t if isinstance(t, float) else 0.0
    work.wait()
    return (own or time.perf_counter() - start) / n


def kernels(f, work):
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA]) as p:
        f()
        work.wait()
    return sum(e.count for e in p.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA)


def measure(label, f, work, args, emit, share):
    f()
    work.wait()
    emit("first", label, work.first or since_start())
    if work.graph:
        f = torch_works.graphed(f)
    step, spent, limit = window(f, work, 1), 0.0, args.seconds / share
    for _ in range(20):
        n = max(1, min(5, int(limit / 20 / max(step, 1e-6))))
        now = window(f, work, n)
        emit("warm", label, now)
        spent += now * n
        steady, step = abs(now - step) <= 0.05 * step, now
        if steady or spent > limit / 2:
            break
    n = max(2, min(args.steps, int(limit / args.windows / max(step, 1e-6))))
    cuda = work.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(args.windows):
        emit("time", label, window(f, work, n))
    emit("steps", label, n)
    if cuda:
        emit("live", label, torch.cuda.max_memory_allocated())
        emit("held", label, torch.cuda.max_memory_reserved())
        try:
            emit("kernels", label, kernels(f, work))
        except Exception as e:  # the profiler may not be allowed to look
            emit("note", label, f"kernels not counted: {e}".replace("\n", " "))
