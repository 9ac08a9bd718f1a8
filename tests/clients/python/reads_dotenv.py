"""Prints what python-dotenv reads for two variables in each of some files, each value followed by the byte 1."""

import sys

import dotenv

names, files = sys.argv[1:3], sys.argv[3:]
for file in files:
    values = dotenv.dotenv_values(file)
    for name in names:
        sys.stdout.write(values[name] + "\x01")
