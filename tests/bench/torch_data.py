"""PyTorch's side of `make bench-data`: a DataLoader whose workers decode with Pillow and transform as ldlua does.

    python torch_data.py check LIST --transform adm --size 256 --out FILE      the first pictures, as raw bytes (n,size,size,3)
    python torch_data.py time  LIST --transform adm --size 256 --workers 2     every picture once

LIST has a path a line. Lines for the driver: kind, label, value, separated by tabs."""
import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["check", "time"])
parser.add_argument("list")
parser.add_argument("--transform", choices=["adm", "short-center-bilinear", "lanczos"], default="adm")
parser.add_argument("--size", type=int, default=256)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--first", type=int, default=64)
parser.add_argument("--out")
args = parser.parse_args()

import numpy as np  # noqa: E402
import PIL  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

SIZE = args.size


def emit(kind, label, value):
    print(kind, label, f"{value:.9g}" if isinstance(value, float) else value, sep="\t", flush=True)


def square(im):
    """The middle square of the short side."""
    side = min(im.size)
    x, y = (im.width - side) // 2, (im.height - side) // 2
    return im.crop((x, y, x + side, y + side))


def adm(im):
    """Halved by boxes while twice the size, bicubic to the short side, then the middle."""
    while min(im.size) >= 2 * SIZE:
        im = im.resize((im.width // 2, im.height // 2), Image.BOX)
    scale = SIZE / min(im.size)
    im = im.resize((round(im.width * scale), round(im.height * scale)), Image.BICUBIC)
    x, y = (im.width - SIZE) // 2, (im.height - SIZE) // 2
    return im.crop((x, y, x + SIZE, y + SIZE))


TRANSFORMS = {
    "adm": adm,
    "short-center-bilinear": lambda im: square(im).resize((SIZE, SIZE), Image.BILINEAR),
    "lanczos": lambda im: square(im).resize((SIZE, SIZE), Image.LANCZOS),
}


class Pictures(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths, self.transform = paths, TRANSFORMS[args.transform]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as im:
            return torch.from_numpy(np.array(self.transform(im.convert("RGB"))))


def main():
    with open(args.list) as f:
        paths = f.read().split("\n")[:-1]
    emit("version", "PyTorch", torch.__version__)
    emit("version", "Pillow", PIL.__version__)
    if args.what == "check":
        some = Pictures(paths[: args.first])
        with open(args.out, "wb") as f:
            for i in range(len(some)):
                f.write(some[i].numpy().tobytes())
        return
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(Pictures(paths), batch_size=args.batch, num_workers=args.workers,
                                         prefetch_factor=4, persistent_workers=False)
    start, seen = None, 0
    for batch in loader:
        if start is None:  # the workers' start does not count
            start = time.perf_counter()
            continue
        seen += len(batch)
    emit("rate", "decode", seen / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
