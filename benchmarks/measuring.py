"""One run of one method, alone in a process, so that its peak memory is its own."""

import multiprocessing
import platform
import resource
import time
import warnings
from importlib import import_module
from unittest import mock

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from skorch import NeuralNet

from benchmarks.methods import METHODS, Parts


def measure(name, problem, seed):
    """Score a problem by a method; give measurements and the scores for each of its lines."""
    nets = mock.Mock()
    train = NeuralNet.fit_loop

    def counted(*arguments, **keywords):
        nets()
        return train(*arguments, **keywords)

    before, cpu, start = _peak(), time.process_time(), time.perf_counter()
    with mock.patch.object(NeuralNet, "fit_loop", counted):
        found = METHODS[name].score(problem, seed)
    common = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "memory_mib": _peak() - before,
        "trainings": METHODS[name].trainings + nets.call_count,
    }
    parts = found if isinstance(found, Parts) else Parts({name: found})
    return {
        line: common
        | _judged(problem, scores)
        | _own_seconds(common, parts.seconds.get(line))
        | {"scores": np.asarray(scores)}
        for line, scores in parts.scores.items()
    }


def _peak():
    """Give the largest memory that this process has held, in MiB."""
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _judged(problem, scores):
    scores, is_error = np.asarray(scores)[problem.scored], problem.is_error[problem.scored]
    if not np.isfinite(scores).all():
        return {"failure": f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite"}
    return {
        "auroc": roc_auc_score(is_error, scores),
        "average_precision": average_precision_score(is_error, scores),
    }


def _own_seconds(common, seconds):
    """Share the processor time of a run with several lines as the clock says."""
    if seconds is None:
        return {}
    share = seconds / common["seconds"]
    return {"seconds": seconds, "cpu_seconds": share * common["cpu_seconds"]}


def measure_alone(name, problem, seed, *, threads=1, timeout=None, plugins=()):
    """Do the same in a process of its own; give the measurements, or the reason of a failure."""
    # a server that has imported everything forks the process: nothing else is in its memory
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.warm"])
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, name, problem, seed, threads, plugins)
    process = context.Process(target=_child, args=arguments)
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return f"took more than {timeout:g} s"
        return receiver.recv()
    except EOFError:
        process.join()
        return f"its process died, exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _child(sender, name, problem, seed, threads, plugins):
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    for plugin in plugins:
        import_module(plugin)
    try:
        sender.send(measure(name, problem, seed))
    except Exception as error:  # whatever a method raises is a result of the comparison
        sender.send(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
