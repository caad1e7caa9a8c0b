"""PyTorch's side of the cases, built from a seed file that ldlua wrote (works.lua says what is in it). A work has

    compute()   -> (results, gradients) by name, from the seed's inputs; the names are the seed's without their prefix
    series      -> {label: function that is timed}; a function may return the seconds that it counted itself

MODES says what a mode is: bf16 runs the networks under autocast, losses in f32; compiled ones go through torch.compile; a
graph is the whole of what is timed in one CUDA graph. Networks and inputs are channels-last."""
import contextlib
import math
import time

import torch
import torch.nn.functional as F

import torch_nets as nets

ADAMW = dict(lr=1e-4, betas=(0.9, 0.999), eps=1e-5, weight_decay=0.01, fused=True)
# name: (autocast to bf16, torch.compile's mode, one CUDA graph)
MODES = {"eager": (False, None, False), "compile": (False, "default", False), "bf16": (True, None, False),
         "bf16_compile": (True, "default", False), "bf16_max": (True, "max-autotune", False),
         "bf16_graph": (True, None, True)}
TIME_MAX = 0.999  # the largest time that training draws


def numbers(text):
    return tuple(int(word) for word in text.split(","))


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def alpha_sigma(t):
    angle = t.double() * (math.pi / 2)
    return [f(angle).float()[:, None, None, None] for f in (torch.cos, torch.sin)]


class Work:
    def __init__(self, seed, mode, device):
        self.seed, self.mode, self.meta, self.device = seed, mode, seed.meta, device
        self.half, self.compile_mode, self.graph = MODES[mode]
        self.inputs = {name: channels_last(x.to(device)) for name, x in seed.read("input.")}
        self.series, self.first = {}, None

    def autocast(self):
        # Copies of weights are cached within a pass; a graph would keep those of the pass that it recorded.
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=not self.graph) if self.half \
            else contextlib.nullcontext()

    def compiled(self, f):
        return torch.compile(f, mode=self.compile_mode) if self.compile_mode else f

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def load(self, net, prefix="param.", parts=None):
        """Every parameter and running value, but of `parts` of the network alone when they are given."""
        own = {name: x for name, x in net.state_dict().items()
               if not name.endswith("num_batches_tracked") and (parts is None or name.startswith(parts))}
        with torch.no_grad():
            for name, x in self.seed.read(prefix):
                own.pop(name).copy_(x)
        if own:
            raise SystemExit("the seed lacks " + " ".join(sorted(own)[:5]))
        return net.to(self.device, memory_format=torch.channels_last)

    def unet(self):
        m = self.meta
        net = nets.Unet(numbers(m["channels"]), int(m["layers"]), int(m["attention_from"]), int(m["attention_width"]))
        return self.load(net)


def gradients(net):
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


class Training(Work):
    """zero_grad, forward, loss, backward, fused AdamW."""

    def prepare(self, net):
        self.net = net.train()
        self.forward = self.compiled(net)
        self.optimizer = torch.optim.AdamW(net.parameters(), capturable=self.graph, **ADAMW)

    def step(self, loss):
        self.optimizer.zero_grad(set_to_none=True)
        loss().backward()
        self.optimizer.step()

    def backward(self, results):
        self.optimizer.zero_grad(set_to_none=True)
        results["loss"].backward()
        out = {name: x.detach() for name, x in results.items()}, gradients(self.net)
        self.optimizer.zero_grad(set_to_none=True)
        return out


class Classifier(Training):
    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        m = self.meta
        self.prepare(self.load(nets.Classifier(numbers(m["channels"]), numbers(m["blocks"]), int(m["classes"]))))
        self.series["step"] = lambda: self.step(self.loss)

    def loss(self):
        with self.autocast():
            logits = self.forward(self.inputs["x"])
        return F.cross_entropy(logits.float(), self.inputs["y"])

    def compute(self):
        return self.backward({"loss": self.loss()})


class Diffusion(Training):
    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        self.scale = float(self.meta["scale"])
        self.prepare(self.unet())
        self.series["step"] = lambda: self.step(self.plain)

    def draw(self):
        z = self.inputs["z"]
        return torch.rand(z.shape[0], device=z.device).clamp_(max=TIME_MAX), torch.randn_like(z)

    def losses(self, t, eps, perceptual=False):
        x0 = self.inputs["z"] * self.scale
        alpha, sigma = alpha_sigma(t)
        x_t = x0 * alpha + eps * sigma
        with self.autocast():
            eps_hat = self.forward(x_t, t)
        eps_hat = eps_hat.float()
        mse = F.mse_loss(eps_hat, eps)
        if not perceptual:
            return {"loss": mse}
        term = self.term(x0, (x_t - eps_hat * sigma) / alpha, alpha, sigma)
        return {"loss": mse + term, "perceptual": term}

    def plain(self):
        return self.losses(*self.draw())["loss"]

    def compute(self):
        return self.backward(self.losses(self.inputs["t"], self.inputs["eps"]))


class Curve(Diffusion):
    """The steps of ldlua's run again: the same latents in the same order, times and noise; mean losses of stretches."""

    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        self.series = {}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), **dict(ADAMW, lr=float(self.meta["lr"])))

    def compute(self):
        pool, n, losses = self.inputs["z"], int(self.meta["images"]), []
        for begin in range(0, len(self.inputs["order"]), n):
            part = slice(begin, begin + n)
            self.inputs["z"] = pool[self.inputs["order"][part]]
            loss = self.losses(self.inputs["t"][part], self.inputs["eps"][part])["loss"]
            losses.append(loss.detach())
            self.step(lambda loss=loss: loss)
        return {"curve": torch.stack(losses).reshape(int(self.meta["means"]), -1).mean(1)}, {}


class Perceptual(Diffusion):
    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        m = self.meta
        judge = nets.Classifier(numbers(m["judge_channels"]), numbers(m["judge_blocks"]), int(m["judge_classes"]))
        judge = self.load(judge, "judge.").eval().requires_grad_(False)
        self.features = self.compiled(judge.features)
        self.weight, self.gate, self.clamp = (float(m[key]) for key in ("weight", "gate", "clamp"))
        self.mean, self.std = (self.inputs[key][None, :, None, None] for key in ("mean", "std"))
        self.series = {"plain step": lambda: self.step(self.plain),
                       "perceptual step": lambda: self.step(lambda: self.losses(*self.draw(), True)["loss"])}

    def term(self, x0, predicted, alpha, sigma):
        predicted = ((predicted / self.scale - self.mean) / self.std).clamp(-self.clamp, self.clamp)
        with self.autocast():
            with torch.no_grad():
                pool0 = self.features((x0 / self.scale - self.mean) / self.std)
            pool = self.features(predicted)
        distance = (pool.float() - pool0.float()).square().mean(1)
        weight = ((sigma <= self.gate * alpha) * alpha.square()).flatten()
        return self.weight * (distance * weight).mean()

    def compute(self):
        return self.backward(self.losses(self.inputs["t"], self.inputs["eps"], True))


class Coder(Work):
    """One direction of the autoencoder, without gradients."""

    def __init__(self, seed, mode, device, method, parts):
        super().__init__(seed, mode, device)
        net = self.load(nets.Autoencoder(numbers(self.meta["channels"])), parts=parts).eval().requires_grad_(False)
        self.forward = self.compiled(getattr(net, method))
        self.series["step"] = self.run

    def run(self):
        with torch.no_grad(), self.autocast():
            self.output = self.forward(self.inputs["x"])

    def compute(self):
        self.run()
        return {"output": self.output.float()}, {}


class Sampling(Work):
    """DDIM with eta 0 at the times 1 - i/n, i = 1 .. n; the last, at 0, gives back what it gets."""

    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        self.scale, self.steps = float(self.meta["scale"]), int(self.meta["steps"])
        self.forward = self.compiled(self.unet().eval().requires_grad_(False))
        self.series["step"] = lambda: self.sample(torch.randn_like(self.inputs["start"]))

    @torch.no_grad()
    def sample(self, x):
        for i in range(1, self.steps):
            now, following = ((1 - k / self.steps) * math.pi / 2 for k in (i, i + 1))
            with self.autocast():
                eps = self.forward(x, torch.full((x.shape[0],), 1 - i / self.steps, device=x.device))
            eps = eps.float()
            x0 = (x - math.sin(now) * eps) / math.cos(now)
            x = math.cos(following) * x0 + math.sin(following) * eps
        return x / self.scale

    def compute(self):
        return {"output": self.sample(self.inputs["start"])}, {}


class Conv(Work):
    """Single 3x3 convolutions: forward, and each gradient alone."""

    def __init__(self, seed, mode, device):
        super().__init__(seed, mode, device)
        self.names = self.meta["shapes"].split(",")
        self.forward = self.compiled(lambda x, w: F.conv2d(x, w, padding=1))
        for name in self.names:
            x, w, g = self.tensors(name)
            self.series[name + " forward"] = lambda x=x, w=w: self.run(x, w)
            self.series[name + " data"] = lambda x=x, w=w, g=g: self.gradient(x, w, g, x)
            self.series[name + " weight"] = lambda x=x, w=w, g=g: self.gradient(x, w, g, w)

    def tensors(self, name):
        tensors = [self.inputs[f"{kind}.{name}"] for kind in "xwg"]
        return [x.bfloat16() for x in tensors] if self.half else tensors

    def run(self, x, w):
        with torch.no_grad():
            self.forward(x, w)

    def gradient(self, x, w, g, leaf):
        leaf.requires_grad_(True)
        y = self.forward(x, w)
        self.wait()
        start = time.perf_counter()
        torch.autograd.grad(y, leaf, g)
        self.wait()
        seconds = time.perf_counter() - start
        leaf.requires_grad_(False)
        return seconds

    def compute(self):
        out = {}
        for name in self.names:
            x, w, g = self.tensors(name)
            x.requires_grad_(True), w.requires_grad_(True)
            y = self.forward(x, w)
            dx, dw = torch.autograd.grad(y, (x, w), g)
            x.requires_grad_(False), w.requires_grad_(False)
            out.update({"y." + name: y.detach(), "dx." + name: dx, "dw." + name: dw})
        return out, {}


WORKS = {"diffusion": Diffusion, "perceptual": Perceptual, "classifier": Classifier, "curve": Curve,
         "sampling": Sampling, "conv": Conv,
         "encoder": lambda *o: Coder(*o, "encode", ("encoder.", "quant_conv.")),
         "decoder": lambda *o: Coder(*o, "decode", ("decoder.", "post_quant_conv."))}


def work(seed, mode, device):
    torch.manual_seed(1)
    return WORKS[seed.meta["kind"]](seed, mode, device)


def graphed(f):
    """One call of f as a CUDA graph: the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            f()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f()
    return graph.replay
