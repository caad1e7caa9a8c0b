#!/usr/bin/env python3
"""Runs every transform of ldlua over folders of pictures and sets the results beside Pillow's (which it needs, with numpy).

    tests/tools/compare_pillow.py [--size 256] [--only adm,lanczos] [--rows-first] [--ldlua ./ldlua] FOLDER...

A line for each folder and transform: pictures, the largest difference of any byte (0 .. 255), the mean difference, and
the share of bytes that differ. "pixels" compares the transforms alone, on pixels decoded by ldlua; "files" decodes by
Pillow too, whose JPEG library may be another one.

Pillow 13 resizes columns before rows where the height shrinks more than the width, and so rounds differently between the
two; older ones never do, nor does ldlua. --rows-first has Pillow take the rows first always.
"""
import argparse
import os
import subprocess
import tempfile

import numpy as np
from PIL import Image

TRANSFORMS = "adm", "short-center-bilinear", "topleft", "lanczos", "center", "stretch", "dct-fast"

# Square pictures as PNG, or those as they are decoded, numbered; and the list of names.
SCRIPT = """
local ld = require 'ld'
local folder, size, transform, out = unpack(arg)
local set = ld.images.open(folder, {size = tonumber(size), transform = transform ~= 'none' and transform or nil})
local names = io.open(out .. '/names', 'w')
for i = 1, set.count do
  ld.scope(function()
    local x, bad
    if transform == 'none' then
      local ok, whole = pcall(ld.load_image, folder .. '/' .. set:file_name(i))
      x, bad = ok and whole, not ok
    else
      local batch, why = set:read{i}
      x, bad = batch[1], why[1]
    end
    names:write(set:file_name(i), '\\n')
    if not bad then ld.save_image(x, ('%s/%06d.png'):format(out, i)) end
  end)
end
names:close()
"""


def resize(im, width, height, how):
    return im.resize((width, height), how)


def resize_rows_first(im, width, height, how):
    return im.resize((width, im.height), how).resize((width, height), how)


def center_crop_arr(im, size):
    while min(im.size) >= 2 * size:
        im = resize(im, im.width // 2, im.height // 2, Image.BOX)
    scale = size / min(im.size)
    im = resize(im, round(im.width * scale), round(im.height * scale), Image.BICUBIC)
    x, y = (im.width - size) // 2, (im.height - size) // 2
    return im.crop((x, y, x + size, y + size))


def square(im, size, how):
    short = min(im.size)
    if how in ("adm", "dct-fast"):
        return center_crop_arr(im, size)
    if how == "center" or how == "topleft" and short < size:
        im = resize(im, size * im.width // short, size * im.height // short, Image.BICUBIC)
        x, y = (round((im.width - size) / 2), round((im.height - size) / 2)) if how == "center" else (0, 0)
        return im.crop((x, y, x + size, y + size))
    if how == "topleft":
        return im.crop((0, 0, size, size))
    if how == "lanczos":
        x, y = (im.width - short) // 2, (im.height - short) // 2
        return resize(im.crop((x, y, x + short, y + short)), size, size, Image.LANCZOS)
    if how == "short-center-bilinear":
        x, y = round((im.width - short) / 2), round((im.height - short) / 2)
        im = im.crop((x, y, x + short, y + short))
    return resize(im, size, size, Image.BILINEAR)


def by_ldlua(ldlua, folder, size, transform, out):
    script = os.path.join(out, "run.lua")
    with open(script, "w") as f:
        f.write(SCRIPT)
    subprocess.run([ldlua, script, folder, str(size), transform, out], check=True)
    with open(os.path.join(out, "names")) as f:
        names = f.read().split("\n")[:-1]
    return [(name, os.path.join(out, "%06d.png" % (i + 1))) for i, name in enumerate(names)]


def by_pillow(path, size, how):
    im = Image.open(path)
    if how == "dct-fast" and im.format == "JPEG": # Pillow's own choice of a scale is more careful
        by = next(k for k in (8, 4, 2, 1) if k == 1 or -(-min(im.size) // k) >= size)
        im.draft(None, (im.width // by, im.height // by))
    return square(im.convert("RGB"), size, how)


def report(folder, how, kind, pairs):
    most, total, off, n, pictures = 0, 0, 0, 0, 0
    for ours, theirs in pairs:
        d = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
        most, total, off, n, pictures = max(most, d.max()), total + d.sum(), off + (d > 0).sum(), n + d.size, pictures + 1
    print("%s %-22s %-6s %4d pictures, largest %3d, mean %.5f, %.3f %% of bytes differ" %
          (folder, how, kind, pictures, most, total / max(n, 1), 100 * off / max(n, 1)), flush=True)


def main():
    global resize
    p = argparse.ArgumentParser()
    p.add_argument("folders", nargs="+")
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--ldlua", default="./ldlua")
    p.add_argument("--only", default=",".join(TRANSFORMS))
    p.add_argument("--rows-first", action="store_true")
    o = p.parse_args()
    if o.rows_first:
        resize = resize_rows_first
    for folder in o.folders:
        with tempfile.TemporaryDirectory() as whole:
            decoded = dict(by_ldlua(o.ldlua, folder, o.size, "none", whole))
            for how in o.only.split(","):
                with tempfile.TemporaryDirectory() as out:
                    made = [(name, Image.open(path)) for name, path in by_ldlua(o.ldlua, folder, o.size, how, out)
                            if os.path.exists(path)]
                    if how != "dct-fast":
                        report(folder, how, "pixels", ((im, square(Image.open(decoded[name]), o.size, how))
                                                       for name, im in made))
                    report(folder, how, "files", ((im, by_pillow(os.path.join(folder, name), o.size, how))
                                                  for name, im in made))


main()
