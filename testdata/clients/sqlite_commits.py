#!/usr/bin/env python3
"""Commits to an SQLite database until it is killed, or checks one.

    sqlite_commits.py commit FILE JOURNAL_MODE   prints each number once its commit is done
    sqlite_commits.py check FILE NUMBER          all commits up to NUMBER are there and whole
"""

import hashlib
import sqlite3
import sys

ROWS = 20  # in each commit


def blob(number, row):
    """What a row holds: up to a few pages, so that some overflow theirs."""
    return hashlib.sha256(f"{number} {row}".encode()).digest() * (1 + (number * 7 + row * 13) % 300)


def commit(file, mode):
    db = sqlite3.connect(file, isolation_level=None)
    got = db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    if got.lower() != mode.lower():
        sys.exit(f"journal_mode {got}, wanted {mode}")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS t (number INTEGER, row INTEGER, data BLOB, PRIMARY KEY (number, row))")
    number = db.execute("SELECT coalesce(max(number), 0) FROM t").fetchone()[0]
    while True:
        number += 1
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", [(number, r, blob(number, r)) for r in range(ROWS)])
        db.execute("UPDATE t SET data = data WHERE number = ?", (number // 2,))
        db.execute("COMMIT")
        print(number, flush=True)


def check(file, promised):
    db = sqlite3.connect(file)
    result = db.execute("PRAGMA integrity_check").fetchall()
    if result != [("ok",)]:
        sys.exit(f"integrity_check: {result}")
    last = db.execute("SELECT coalesce(max(number), 0) FROM t").fetchone()[0]
    if last < promised:
        sys.exit(f"commit {promised} was done, but {last} is the last")
    for number in range(1, last + 1):
        rows = db.execute("SELECT row, data FROM t WHERE number = ? ORDER BY row", (number,)).fetchall()
        if rows != [(r, blob(number, r)) for r in range(ROWS)]:
            sys.exit(f"commit {number} is not whole")
    print(last)


if __name__ == "__main__":
    if sys.argv[1] == "commit":
        commit(sys.argv[2], sys.argv[3])
    else:
        check(sys.argv[2], int(sys.argv[3]))
