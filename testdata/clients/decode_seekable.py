#!/usr/bin/env python3
"""Decodes a container with pyzstd's SeekableZstdFile, which knows nothing of us.

Prints, as JSON, the length and SHA-256 of the decoded content, which is planned
bytes, not logical ones. Ranges read at random must equal the same ranges of the
whole; else it exits 1.
"""

import argparse
import hashlib
import json
import random
import sys

from pyzstd import SeekableZstdFile

CHUNK = 1 << 20


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("container")
    p.add_argument("--ranges", type=int, default=100, help="how many random ranges to read")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()

    with SeekableZstdFile(args.container) as f:
        size = f.seek(0, 2)
        rng = random.Random(args.seed)
        ranges = []
        for _ in range(args.ranges if size else 0):
            at = rng.randrange(size)
            ranges.append((at, min(rng.choice([1, 100, 10_000, 300_000]), size - at)))

        # One pass over everything, keeping a checksum for each range.
        f.seek(0)
        whole, sums, at = hashlib.sha256(), [hashlib.sha256() for _ in ranges], 0
        while chunk := f.read(CHUNK):
            whole.update(chunk)
            for (start, n), h in zip(ranges, sums):
                h.update(chunk[max(start - at, 0) : max(start + n - at, 0)])
            at += len(chunk)
        if at != size:
            sys.exit(f"{args.container}: the seek table says {size} bytes, but {at} came")

        for (start, n), h in zip(ranges, sums):
            f.seek(start)
            if hashlib.sha256(f.read(n)).digest() != h.digest():
                sys.exit(f"{args.container}: {n} bytes at {start} differ from the same bytes of the whole")
    print(json.dumps({"bytes": size, "sha256": whole.hexdigest()}))


if __name__ == "__main__":
    main()
