"""The command line: `python -m benchmarks run`, `table` and `list`."""

import argparse
import os
import shlex
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.data import add_data_argument


def main(arguments=None):
    options = _parser().parse_args(arguments)
    return options.command(options)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="measure what the file of results does not hold yet")
    run.set_defaults(command=_run)
    run.add_argument("--battery", default="eight", help="a list of sets (default: eight)")
    run.add_argument("--sets", nargs="+", help="of the battery, only these sets")
    run.add_argument("--methods", nargs="+", help="names, or groups: ours, peer, control")
    run.add_argument("--seeds", type=int, nargs="+", default=[0])
    run.add_argument("--out", type=Path, required=True, help="CSV, gone on with if it is there")
    add_data_argument(run)
    run.add_argument("--scores", type=Path, help="folder to write the scores of all rows to")
    run.add_argument("--threads", type=int, default=1)
    run.add_argument("--timeout", type=float, help="seconds that a method may take for a set")
    run.add_argument("--redo", action="store_true", help="drop the lines of these methods first")
    run.add_argument("--plugin", action="append", default=[], help="module that adds methods")

    table = commands.add_parser("table", help="print tables of files of results, as markdown")
    table.set_defaults(command=_table)
    table.add_argument("results", type=Path, nargs="+")
    table.add_argument("--battery", help="of the results, only this list of sets")
    table.add_argument("--ours", default="default", help="the method that is held against rivals")
    table.add_argument("--rivals", nargs="+", help="names of rivals (default: the cheap ones)")
    table.add_argument("--candidates", nargs="+", help="what is chosen among, a set left out")

    listing = commands.add_parser("list", help="print the batteries, sets and methods")
    listing.set_defaults(command=_list)
    return parser


def _run(options):
    # the processes that measure inherit it
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    from benchmarks.batteries import BATTERIES
    from benchmarks.measuring import measure_alone
    from benchmarks.methods import METHODS, methods_named
    from benchmarks.results_file import ResultsFile
    from benchmarks.running import run, show_now

    for plugin in options.plugin:
        import_module(plugin)
    methods = methods_named(options.methods) if options.methods else list(METHODS.values())
    cells = [
        (name, noise)
        for name, noise in BATTERIES[options.battery]
        if not options.sets or name in options.sets
    ]
    results = ResultsFile(options.out)
    if options.redo:
        results.forget({line for method in methods for line in method.lines})
    results.note_run(_command(options), options.threads)
    measure = partial(
        measure_alone,
        threads=options.threads,
        timeout=options.timeout,
        plugins=tuple(options.plugin),
    )
    run(
        cells,
        options.seeds,
        methods,
        results,
        folder=options.data,
        scores_folder=options.scores,
        measure=measure,
        show=show_now,
    )


def _command(options):
    """Write down how the run was started, without the folders of this machine."""
    names = {options.data: "DIR", str(options.scores): "SCORES", str(options.out): options.out.name}
    return shlex.join(["python", "-m", "benchmarks", *(names.get(a, a) for a in sys.argv[1:])])


def _table(options):
    from benchmarks.batteries import BATTERIES
    from benchmarks.results_file import read
    from benchmarks.tables import RIVALS, report

    lines = read(*options.results)
    if options.battery:
        wanted = BATTERIES[options.battery]
        lines = lines[[cell in wanted for cell in zip(lines["set"], lines["noise"], strict=True)]]
    print(report(lines, options.ours, options.rivals or RIVALS, options.candidates))


def _list(options):
    from benchmarks.batteries import BATTERIES
    from benchmarks.data import SETS
    from benchmarks.methods import METHODS

    for name, cells in BATTERIES.items():
        print(f"battery {name}: {len(cells)} cells, {', '.join(dict(cells))}")
    for name, entry in SETS.items():
        print(f"set {name}: {', '.join(entry.noises)}")
    for entry in METHODS.values():
        print(f"method {entry.name} ({entry.group}, {'/'.join(entry.tasks)})", end="")
        print("" if entry.lines == (entry.name,) else f": {'; '.join(entry.lines)}")


if __name__ == "__main__":
    # a run that is ended takes the process that measures with it, as by Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
