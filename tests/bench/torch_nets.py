"""The networks of docs/method.md in PyTorch, with the parameter names and the arithmetic of lua/ld/models: the referee of
`make bench`. Nothing here is part of ldlua."""
import math

import torch
import torch.nn.functional as F
from torch import nn


# ---- the diffusion U-Net (lua/ld/models/unet.lua, norm = 'batch') --------------------------------------------------

def pre_conv(ni, nf):
    return nn.Sequential(nn.BatchNorm2d(ni), nn.SiLU(), nn.Conv2d(ni, nf, 3, padding=1))


class Attention(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.heads = channels // width
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        qkv = self.qkv(self.norm(tokens)).reshape(n, h * w, self.heads, 3, c // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        y = self.proj(y.transpose(1, 2).reshape(n, h * w, c))
        return y.reshape(n, h, w, c).permute(0, 3, 1, 2)


class TimeBlock(nn.Module):
    def __init__(self, emb, ni, nf, width):
        super().__init__()
        self.emb_proj = nn.Linear(emb, 2 * nf)
        self.conv1 = pre_conv(ni, nf)
        self.conv2 = pre_conv(nf, nf)
        self.idconv = nn.Conv2d(ni, nf, 1) if ni != nf else None
        self.attn = Attention(nf, width) if width else None

    def forward(self, x, emb):
        scale, shift = self.emb_proj(F.silu(emb))[:, :, None, None].chunk(2, 1)
        y = self.conv2(self.conv1(x) * (1 + scale) + shift)
        y = y + (self.idconv(x) if self.idconv is not None else x)
        return y + self.attn(y) if self.attn is not None else y


class Down(nn.Module):
    def __init__(self, emb, ni, nf, layers, last, width):
        super().__init__()
        self.resnets = nn.ModuleList(TimeBlock(emb, ni if i == 0 else nf, nf, width) for i in range(layers))
        self.down = None if last else nn.Conv2d(nf, nf, 3, stride=2, padding=1)

    def forward(self, x, emb, skips):
        for block in self.resnets:
            x = block(x, emb)
            skips.append(x)
        if self.down is not None:
            x = self.down(x)
            skips.append(x)
        return x


class Up(nn.Module):
    def __init__(self, emb, ni, previous, nf, layers, last, width):
        super().__init__()
        self.resnets = nn.ModuleList(
            TimeBlock(emb, (previous if i == 0 else nf) + (ni if i == layers else nf), nf, width)
            for i in range(layers + 1))
        self.up = None if last else nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(nf, nf, 3, padding=1))

    def forward(self, x, emb, skips):
        for block in self.resnets:
            x = block(torch.cat([x, skips.pop()], 1), emb)
        return self.up(x) if self.up is not None else x


class Unet(nn.Module):
    def __init__(self, channels, layers=2, attention_from=2, attention_width=16):
        super().__init__()
        first, emb, top = channels[0], 4 * channels[0], len(channels)

        def width(level):
            return attention_width if 0 < attention_from <= level else 0
        self.dim = first
        self.conv_in = nn.Conv2d(4, first, 3, padding=1)
        self.emb_mlp = nn.Sequential(nn.Sequential(nn.BatchNorm1d(first), nn.SiLU(), nn.Linear(first, emb)),
                                     nn.Sequential(nn.SiLU(), nn.Linear(emb, emb)))
        self.downs = nn.ModuleList(
            Down(emb, channels[max(i - 1, 1) - 1], nf, layers, i == top, width(i))
            for i, nf in enumerate(channels, 1))
        self.mid_block = TimeBlock(emb, channels[-1], channels[-1], 0)
        self.ups = nn.ModuleList(
            Up(emb, channels[max(i - 1, 1) - 1], channels[min(i + 1, top) - 1], channels[i - 1], layers, i == 1,
               width(i)) for i in range(top, 0, -1))
        self.conv_out = nn.Sequential(nn.BatchNorm2d(first), nn.SiLU(), nn.Conv2d(first, 4, 3, padding=1, bias=False))

    def embedding(self, t):
        half = self.dim // 2
        f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64, device=t.device) / (half - 1)).float()
        e = t[:, None] * f[None]
        return torch.cat([e.sin(), e.cos()], 1)

    def forward(self, x, t):
        emb = self.emb_mlp(self.embedding(t))
        x = self.conv_in(x)
        skips = [x]
        for down in self.downs:
            x = down(x, emb, skips)
        x = self.mid_block(x, emb)
        for up in self.ups:
            x = up(x, emb, skips)
        return self.conv_out(x)


# ---- the latent classifier (lua/ld/models/classifier.lua) ----------------------------------------------------------

class GeneralReLU(nn.Module):
    def forward(self, x):
        return F.leaky_relu(x, 0.1) - 0.4


def pre_act(ni, nf, stride):
    return nn.Sequential(nn.BatchNorm2d(ni), GeneralReLU(), nn.Conv2d(ni, nf, 3, stride=stride, padding=1))


class Residual(nn.Module):
    def __init__(self, ni, nf, stride):
        super().__init__()
        self.convs = nn.Sequential(pre_act(ni, nf, 1), pre_act(nf, nf, stride))
        self.idconv = nn.Sequential(nn.BatchNorm2d(ni), nn.Conv2d(ni, nf, 1)) if ni != nf else None
        self.pool = stride == 2

    def forward(self, x):
        short = F.avg_pool2d(x, 2, ceil_mode=True) if self.pool else x
        return self.convs(x) + (self.idconv(short) if self.idconv is not None else short)


class Classifier(nn.Sequential):
    def __init__(self, channels=(32, 64, 128, 512, 1024), blocks=(1, 2, 4, 3), classes=1000):
        stages = [nn.Sequential(*(Residual(ni if i == 0 else nf, nf, 2 if i == n - 1 else 1) for i in range(n)))
                  for ni, nf, n in zip(channels, channels[1:], blocks)]
        super().__init__(nn.Conv2d(4, channels[0], 5, padding=2), *stages, GeneralReLU(),
                         nn.BatchNorm2d(channels[-1]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Identity(),
                         nn.Linear(channels[-1], classes, bias=False), nn.BatchNorm1d(classes))
        self.pooled = len(stages) + 4

    def features(self, x):
        for layer in list(self)[:self.pooled]:
            x = layer(x)
        return x.flatten(1)


# ---- the KL autoencoder (lua/ld/models/kl_autoencoder.lua) ---------------------------------------------------------

def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Resnet(nn.Module):
    def __init__(self, ni, nf):
        super().__init__()
        self.norm1, self.conv1 = norm(ni), nn.Conv2d(ni, nf, 3, padding=1)
        self.norm2, self.conv2 = norm(nf), nn.Conv2d(nf, nf, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(ni, nf, 1) if ni != nf else None

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.conv_shortcut(x) if self.conv_shortcut is not None else x)


class VaeAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.group_norm = norm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        n, c, h, w = x.shape
        t = self.group_norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        y = F.scaled_dot_product_attention(self.to_q(t)[:, None], self.to_k(t)[:, None], self.to_v(t)[:, None])[:, 0]
        return self.to_out[0](y).reshape(n, h, w, c).permute(0, 3, 1, 2) + x


class Mid(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.attentions = nn.ModuleList([VaeAttention(channels)])
        self.resnets = nn.ModuleList([Resnet(channels, channels), Resnet(channels, channels)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsampler(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsampler(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    def __init__(self, ni, nf, n, kind):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(ni if i == 0 else nf, nf) for i in range(n))
        if kind == "down":
            self.downsamplers = nn.ModuleList([Downsampler(nf)])
        elif kind == "up":
            self.upsamplers = nn.ModuleList([Upsampler(nf)])
        self.kind = kind

    def forward(self, x):
        for block in self.resnets:
            x = block(x)
        if self.kind == "down":
            return self.downsamplers[0](x)
        return self.upsamplers[0](x) if self.kind == "up" else x


class Encoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        top = len(channels) - 1
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], nf, 2, "down" if i < top else None) for i, nf in enumerate(channels))
        self.mid_block = Mid(channels[-1])
        self.conv_norm_out = norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], 8, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        top = len(channels) - 1
        self.conv_in = nn.Conv2d(4, channels[-1], 3, padding=1)
        self.up_blocks = nn.ModuleList(
            Level(channels[min(i + 1, top)], channels[i], 3, "up" if i > 0 else None) for i in range(top, -1, -1))
        self.mid_block = Mid(channels[-1])
        self.conv_norm_out = norm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self, channels=(128, 256, 512, 512)):
        super().__init__()
        self.encoder, self.decoder = Encoder(channels), Decoder(channels)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))[:, :4]

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
