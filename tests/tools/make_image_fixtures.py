#!/usr/bin/env python3
"""Makes tests/fixtures/images: small pictures and, as raw bytes (rows top to bottom, interleaved), what they must become.

Needs Pillow and numpy. The results, of Pillow 13.0, are kept in the repository; run this again only to change them:

    tests/tools/make_image_fixtures.py tests/fixtures/images
"""
import io
import os
import random
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

OUT = sys.argv[1]
WIDTH, HEIGHT = 23, 17
FILTERS = {"box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


def save(name, data):
    if isinstance(data, Image.Image):
        data = data.tobytes()
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def encode(im, **how):
    f = io.BytesIO()
    im.save(f, **how)
    return f.getvalue()


def picture():
    """Ramps, a disc, a hard edge and a little noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    a = np.stack([x * 11, y * 15, 255 - x * 5 - y * 6], axis=2)
    a[(x - 9) ** 2 + (y - 8) ** 2 < 20] = (250, 240, 10)
    a[:, 18:20] = (0, 0, 0)
    a[13:15, 3:12] = (255, 255, 255)
    a += np.random.default_rng(1).integers(-8, 9, a.shape)
    return a.clip(0, 255).astype(np.uint8)


# ---- PNG by hand: what Pillow does not write ----


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, interlace=0, extra=b""):
    """rows: the raw rows of every pass, without filter bytes."""
    data = b"".join(b"\0" + r for r in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
            + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


def adam7(a):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in passes:
        part = a[y::dy, x::dx]
        if part.size:
            yield from (row.tobytes() for row in part)


def packed(a, depth):
    """Rows of values below 2^depth, several a byte, the first in the high bits."""
    for row in a:
        bits = "".join(format(int(v), "0%db" % depth) for v in row)
        bits += "0" * (-len(bits) % 8)
        yield bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def make_png(rgb, gray):
    rng = np.random.default_rng(2)
    a, g = np.asarray(rgb), np.asarray(gray)
    alpha = rng.integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    size = WIDTH, HEIGHT
    save("rgb.png", encode(rgb, format="PNG", optimize=True))
    save("gray.png", encode(gray, format="PNG", optimize=True))
    save("alpha.png", encode(Image.fromarray(np.concatenate([a, alpha], 2)), format="PNG"))
    save("gray-alpha.png", encode(Image.merge("LA", [gray, Image.fromarray(alpha[:, :, 0])]), format="PNG"))
    palette = rgb.quantize(40)
    save("palette.png", encode(palette, format="PNG", transparency=bytes(rng.integers(0, 256, 40).tolist())))
    save("palette.raw", palette.convert("RGB"))
    palette = rgb.quantize(13)
    save("palette4.png", encode(palette, format="PNG", bits=4))
    save("palette4.raw", palette.convert("RGB"))
    save("interlaced.png", png(*size, 8, 2, adam7(a), interlace=1))
    low = rng.integers(0, 256, a.shape)
    save("deep.png", png(*size, 16, 2, (r.astype(">u2").tobytes() for r in a.astype(int) * 256 + low)))
    save("deep-gray.png", png(*size, 16, 0, (r.astype(">u2").tobytes() for r in g.astype(int) * 256 + low[:, :, 0])))
    key = struct.pack(">HHH", *(int(v) for v in a[3, 4]))
    save("key.png", png(*size, 8, 2, (r.tobytes() for r in a), extra=chunk(b"tRNS", key)))
    for depth in 1, 2:
        few = g >> (8 - depth)
        save("gray%d.png" % depth, png(*size, depth, 0, packed(few, depth)))
        save("gray%d.raw" % depth, (few * (255 // (2 ** depth - 1))).astype(np.uint8).tobytes())
    save("huge.png", png(100000, 100000, 8, 2, [b"\0" * 64]))
    save("bomb.png", png(16000, 16000, 8, 2, [b"\0" * 64]))
    save("flat.png", png(0, 5, 8, 2, [b"\0" * 64]))


# ---- JPEG ----


def cmyk_to_rgb(a):
    """Pillow's convert("RGB"), for values where 0 is no ink."""
    return Image.frombytes("CMYK", (a.shape[1], a.shape[0]), a.tobytes()).convert("RGB")


def without_adobe(data):
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]:]


def as_ycck(data):
    """Sets the transform of the Adobe marker, so that the same numbers are read as YCCK."""
    at = data.index(b"Adobe")
    return data[:at + 11] + b"\x02" + data[at + 12:]


def make_jpeg(rgb, gray):
    files = {
        "gray": encode(gray, format="JPEG", quality=80),
        "420": encode(rgb, format="JPEG", quality=80, subsampling="4:2:0"),
        "422": encode(rgb, format="JPEG", quality=80, subsampling="4:2:2"),
        "444": encode(rgb, format="JPEG", quality=90, subsampling="4:4:4"),
        "progressive": encode(rgb, format="JPEG", quality=85, progressive=True),
        "keep-rgb": encode(rgb, format="JPEG", quality=85, keep_rgb=True),
    }
    for name, data in files.items():
        im = Image.open(io.BytesIO(data))
        save(name + ".jpg", data)
        save(name + "-jpg.raw", im if name == "gray" else im.convert("RGB"))
    save("jpeg-inside.png", files["420"])
    rng = np.random.default_rng(3)
    ink = np.concatenate([255 - np.asarray(rgb), rng.integers(0, 9, (HEIGHT, WIDTH, 1), dtype=np.uint8) * 12], 2)
    adobe = encode(Image.frombytes("CMYK", (WIDTH, HEIGHT), ink.tobytes()), format="JPEG", quality=85)
    for name, data in ("cmyk-adobe", adobe), ("ycck", as_ycck(adobe)):
        save(name + ".jpg", data)
        save(name + "-jpg.raw", Image.open(io.BytesIO(data)).convert("RGB"))
    # Pillow inverts in any case; without the marker that is undone here.
    plain = without_adobe(adobe)
    save("cmyk.jpg", plain)
    save("cmyk-jpg.raw", cmyk_to_rgb(255 - np.asarray(Image.open(io.BytesIO(plain)))))


def make_webp(rgb):
    alpha = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(alpha))
    save("lossless.webp", encode(rgb, format="WEBP", lossless=True))
    save("lossless-alpha.webp", encode(rgba, format="WEBP", lossless=True, exact=True))
    lossy = encode(rgb, format="WEBP", quality=80)
    save("lossy.webp", lossy)
    save("lossy-webp.raw", Image.open(io.BytesIO(lossy)).convert("RGB"))
    frames = dict(format="WEBP", save_all=True, append_images=[rgb.transpose(Image.FLIP_LEFT_RIGHT)], lossless=True)
    save("animated.webp", encode(rgb, **frames))


def make_broken():
    for name in "420.jpg", "rgb.png", "lossy.webp":
        with open(os.path.join(OUT, name), "rb") as f:
            data = f.read()
        save("truncated" + os.path.splitext(name)[1], data[:len(data) * 3 // 5])
    noise = random.Random(5).randbytes(64)
    save("garbage.jpg", noise)
    save("garbage.png", b"\x89PNG\r\n\x1a\n" + noise)
    save("empty.jpg", b"")


# ---- resizing ----


def resize(im, width, height, how, part=None):
    """Rows first, then columns: newer Pillows choose the order by speed, and round differently."""
    x0, y0, x1, y1 = part or (0, 0, im.width, im.height)
    im = im.resize((width, im.height), how, box=(x0, 0, x1, im.height))
    return im.resize((width, height), how, box=(0, y0, width, y1))


def make_resized(rgb, gray):
    for name, how in FILTERS.items():
        save("resize-up-%s.raw" % name, resize(rgb, 31, 25, how))
        save("resize-down-%s.raw" % name, resize(rgb, 9, 7, how))
        save("resize-part-%s.raw" % name, resize(rgb, 12, 10, how, (2.25, 1.5, 19.75, 14.25)))
        save("resize-gray-%s.raw" % name, resize(gray, 15, 21, how))


def center_crop_arr(im, size):
    """guided-diffusion's."""
    while min(im.size) >= 2 * size:
        im = resize(im, im.width // 2, im.height // 2, Image.BOX)
    scale = size / min(im.size)
    im = resize(im, round(im.width * scale), round(im.height * scale), Image.BICUBIC)
    x, y = (im.width - size) // 2, (im.height - size) // 2
    return im.crop((x, y, x + size, y + size))


def square(im, size, how):
    width, height = im.size
    short = min(width, height)
    if how == "adm":
        return center_crop_arr(im, size)
    if how == "center" or how == "topleft" and short < size:
        im = resize(im, int(size * width / short), int(size * height / short), Image.BICUBIC)
        x, y = (round((im.width - size) / 2), round((im.height - size) / 2)) if how == "center" else (0, 0)
        return im.crop((x, y, x + size, y + size))
    if how == "topleft":
        return im.crop((0, 0, size, size))
    if how == "lanczos":
        x, y = (width - short) // 2, (height - short) // 2
        return resize(im.crop((x, y, x + short, y + short)), size, size, Image.LANCZOS)
    if how == "short-center-bilinear":
        x, y = round((width - short) / 2), round((height - short) / 2)
        im = im.crop((x, y, x + short, y + short))
    return resize(im, size, size, Image.BILINEAR)


def make_squares(rgb):
    tall = rgb.transpose(Image.TRANSPOSE)
    for how in "adm", "short-center-bilinear", "topleft", "lanczos", "center", "stretch":
        for size in 4, 11, 20:
            save("square-wide-%s-%d.raw" % (how, size), square(rgb, size, how))
            save("square-tall-%s-%d.raw" % (how, size), square(tall, size, how))


# ---- a larger picture, resized as a user of Pillow does: in one call ----


def photograph(width=151, height=101):
    """Hills, a sun, stripes that alias when they are sampled carelessly; smooth elsewhere, so that it packs well."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    a = np.stack([90 + y, 120 + y / 2, 230 - y], axis=2)
    for k, colour in enumerate([(60, 110, 60), (40, 90, 40), (80, 60, 30)]):
        top = 45 + 18 * k + 9 * np.sin(x / (13 + 4 * k) + k) + 3 * np.sin(x / 5)
        a[y > top] = colour
    a[(x - 110) ** 2 + (y - 22) ** 2 < 150] = (255, 240, 190)
    stripes = (x < 40) & (y > 70)
    a[stripes] = np.where(((x + y).astype(int) % 3 == 0)[stripes, None], 235, 20)
    a[60:64, 70:140] = (255, 0, 0)
    a[20:50, 60] = (255, 255, 255)
    a[75:, 90:] += np.random.default_rng(6).integers(-40, 41, a[75:, 90:].shape)
    return a.clip(0, 255).astype(np.uint8)


def at_once(im, width, height, how, part=None):
    return im.resize((width, height), how, box=part)


def make_photographs():
    global resize
    stepwise, resize = resize, at_once
    wide = Image.fromarray(photograph())
    tall = Image.fromarray(photograph().transpose(1, 0, 2)[:90, 20:81].copy())
    jpeg = encode(wide, format="JPEG", quality=85)
    save("photo-wide.png", encode(wide, format="PNG", optimize=True))
    save("photo-tall.png", encode(tall, format="PNG", optimize=True))
    save("photo.jpg", jpeg)
    for how in "adm", "short-center-bilinear", "topleft", "lanczos", "center", "stretch":
        for name, im, size in ("wide", wide, 24), ("wide", wide, 45), ("tall", tall, 40), ("tall", tall, 64):
            save("photo-%s-%s-%d.png" % (name, how, size), encode(square(im, size, how), format="PNG", optimize=True))
    for size in 12, 24, 45, 64:
        small = Image.open(io.BytesIO(jpeg))
        small.draft("RGB", (size, size))
        save("photo-dct-fast-%d.png" % size, encode(square(small, size, "adm"), format="PNG", optimize=True))
    resize = stepwise


# ---- orientation ----


def make_oriented(rgb):
    for value in range(1, 9):
        exif = Image.Exif()
        exif.endian = "<" if value % 2 else ">"
        exif[0x010f] = "camera"
        exif[0x0112] = value
        for kind, how in ("jpg", dict(format="JPEG", quality=90, subsampling="4:4:4")), ("png", dict(format="PNG")), (
                "webp", dict(format="WEBP", lossless=True)):
            if kind == "jpg" or value == 6:
                data = encode(rgb, exif=exif, **how)
                save("exif-%d.%s" % (value, kind), data)
                turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
                save("exif-%d-%s.raw" % (value, kind), turned)


def main():
    os.makedirs(OUT, exist_ok=True)
    rgb = Image.fromarray(picture())
    gray = rgb.convert("L")
    save("rgb.raw", rgb)
    save("gray.raw", gray)
    make_png(rgb, gray)
    make_jpeg(rgb, gray)
    make_webp(rgb)
    make_broken()
    make_resized(rgb, gray)
    make_squares(rgb)
    make_photographs()
    make_oriented(rgb)


main()
