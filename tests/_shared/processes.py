"""Functions of a test that run in other processes, which share nothing with it but the disk.

A server forks these processes, because each would spend seconds on importing torch.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

SERVER = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
SERVER.set_forkserver_preload(["tests._shared.traces"])


def begin(function, *args):
    """Start a process; its function gets the other end of the connection before its arguments."""
    here, there = SERVER.Pipe()
    process = SERVER.Process(target=function, args=(there, *args), daemon=True)
    process.start()
    there.close()
    return process, here


def exit_code(function, *args):
    process = SERVER.Process(target=function, args=args, daemon=True)
    process.start()
    process.join()
    return process.exitcode


def result_of(function, *args):
    with ProcessPoolExecutor(1, mp_context=SERVER) as pool:
        return pool.submit(function, *args).result()
