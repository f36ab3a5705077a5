"""Data sets x noise x methods x seeds -> one tidy file of results -> tables.

    python -m benchmarks list
    python -m benchmarks run --battery eight --seeds 0 1 2 --data DIR --out results.csv
    python -m benchmarks table results.csv

`data` holds the sets and the noise, `methods` ours and those of others, `batteries` which sets
belong together. Each is an entry of a few lines.
"""
