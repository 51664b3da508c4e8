#!/usr/bin/env python3
"""Removes old checkpoints as the Trainer of transformers does, by the times of their directories.

    rotate_checkpoints.py LIMIT   for each line, a directory, rotates and prints as JSON the names that are left
"""

import json
import os
import sys

from transformers.trainer_utils import rotate_checkpoints


def main():
    limit = int(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        directory = line.rstrip("\n")
        rotate_checkpoints(directory, save_total_limit=limit, use_mtime=True)
        print(json.dumps(sorted(os.listdir(directory))), flush=True)


if __name__ == "__main__":
    main()
