"""What the Python clients share: their arguments, and one line for each thing shown."""

import argparse
import os


def arguments(big=16 * 1024 * 1024):
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("database")
    parser.add_argument("user")
    parser.add_argument("big", type=int, nargs="?", default=big, help="size of the big row in bytes")
    return parser.parse_args()


def schema(name):
    """A schema of this run alone."""
    return f"{name}_{os.getpid()}"


def same(what, found, expected):
    if found != expected:
        raise SystemExit(f"MISMATCH {what}: found {found!r:.300}, expected {expected!r:.300}")
    ok(what)


def below(what, seconds, limit):
    if seconds >= limit:
        raise SystemExit(f"MISMATCH {what}: took {seconds:.1f} s, expected less than {limit} s")
    ok(what)


def ok(what):
    print(f"ok {what}", flush=True)
