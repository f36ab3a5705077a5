"""Markdown tables of a file of results: scores, a method against its rivals, choices, costs.

Means are over seeds, then over cells (a set with its noise). A method that failed counts as chance
in its cell: AUROC .5, and the share of errors as average precision. Classes and numbers have
tables of their own.
"""

from collections import Counter

import pandas as pd

from benchmarks.data import SETS

# What costs a user one line of scikit-learn; margins, too, which are often better than confidence.
RIVALS = [
    "logistic out of fold, confidence",
    "logistic out of fold, margin",
    "forest out of bag, confidence",
    "forest out of bag, margin",
    "boosted out of fold, confidence",
    "boosted out of fold, margin",
    "nearest inputs",
    "loss, last",
    "linear residual out of fold",
    "boosted residual out of fold",
]
CONTROLS = ("random", "oracle")
# Wide tables of many cells are turned on their side.
MANY_CELLS = 10


def report(lines, ours="default", rivals=RIVALS, candidates=None):
    """Give all tables of a data frame of results as one text."""
    lines = _with_chance(lines)
    # a set of a plugin has no entry here
    numbers = lines["set"].map(lambda name: name in SETS and SETS[name].is_regression)
    sections = []
    for title, part in (("Classes", lines[~numbers]), ("Numbers", lines[numbers])):
        if len(part):
            sections += [f"## {title}", scores(part), costs(part), duel(part, ours, rivals)]
            sections += [choice(part, candidates), failures(part)]
    return "\n\n".join(section for section in sections if section)


def _with_chance(lines):
    """Name the cells, and put chance where a method failed."""
    failed = lines["failure"] != ""
    chance = {"auroc": 0.5, "average_precision": lines["n_errors"] / lines["n_scored"]}
    lines = lines.assign(cell=lines["set"] + ", " + lines["noise"])
    for column, value in chance.items():
        lines[column] = lines[column].mask(failed, value)
    return lines


def means(lines, column="auroc"):
    """Average over the seeds: a row for each method, a column for each cell."""
    return lines.pivot_table(index="method", columns="cell", values=column, sort=False)


def _ranked(lines):
    """Order the methods by their mean AUROC, behind them those that miss cells and the controls."""
    auroc = means(lines)
    order = pd.DataFrame(
        {
            "control": auroc.index.isin(CONTROLS),
            "missing": auroc.isna().sum(axis=1),
            "mean": -auroc.mean(axis=1),
        },
        index=auroc.index,
    )
    return list(order.sort_values(["control", "missing", "mean"]).index)


def scores(lines):
    """AUROC / average precision of all methods in all cells, best mean first."""
    auroc, precision = means(lines), means(lines, "average_precision")
    failed = set(map(tuple, lines.loc[lines["failure"] != "", ["method", "cell"]].to_numpy()))
    order, cells = _ranked(lines), list(auroc.columns)

    def shown(method, cell):
        if pd.isna(auroc.loc[method, cell]):
            return ""
        text = _pair(auroc.loc[method, cell], precision.loc[method, cell])
        return f"{text} (failed)" if (method, cell) in failed else text

    table = pd.DataFrame({c: [shown(m, c) for m in order] for c in cells}, index=order)
    table.insert(0, "mean", [_mean(auroc.loc[m], precision.loc[m]) for m in order])
    seeds = lines.groupby(["method", "cell"])["seed"].nunique()
    count = f"{seeds.max()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    title = f"AUROC / average precision of the errors, mean of {count} seed(s)\n\n"
    if len(cells) > MANY_CELLS:
        return title + markdown(table.T, "cell")
    return title + markdown(table, "method")


def _pair(auroc, precision):
    return f"{auroc:.3f} / {precision:.3f}"


def _mean(auroc, precision):
    text = _pair(auroc.mean(), precision.mean())
    missing = auroc.isna().sum()
    return f"{text} ({len(auroc) - missing} of {len(auroc)} cells)" if missing else text


def costs(lines):
    """Seconds, memory and trainings of a method, mean over the cells."""
    order = _ranked(lines)
    columns = {
        "seconds": ("seconds", "{:.1f}"),
        "processor seconds": ("cpu_seconds", "{:.1f}"),
        "most seconds": ("seconds", "{:.1f}"),
        "MiB": ("memory_mib", "{:.0f}"),
        "most MiB": ("memory_mib", "{:.0f}"),
        "trainings": ("trainings", "{:.0f}"),
    }
    table = pd.DataFrame(index=order)
    for title, (column, form) in columns.items():
        by_method = lines.groupby("method")[column]
        values = by_method.max() if title.startswith("most") else by_method.mean()
        table[title] = [form.format(value) for value in values.loc[order]]
    return "Costs\n\n" + markdown(table, "method")


def duel(lines, ours, rivals):
    """Hold a method against the best rival of each cell and against each rival, seed by seed."""
    rivals = [name for name in rivals if name in set(lines["method"]) - {ours}]
    if ours not in set(lines["method"]) or not rivals:
        return ""
    behind = {}
    for column in ("auroc", "average_precision"):
        paired = lines.pivot_table(index=["cell", "seed"], columns="method", values=column)
        # a cell is compared on the seeds that all of them have, or not at all
        paired = paired[[ours, *rivals]].dropna()
        behind[column] = paired.groupby("cell").mean()
    if not len(behind["auroc"]):
        return ""
    return "\n\n".join(
        [
            f"{ours} against the best of its rivals in each cell, seeds that all have\n\n"
            + _best_rivals(behind, ours),
            _bars(behind, ours),
            _against_each(behind, ours),
        ]
    )


def _best_rivals(behind, ours):
    rows = []
    for cell in behind["auroc"].index:
        row = {"cell": cell}
        for column, values in behind.items():
            others = values.loc[cell].drop(ours)
            row[f"best {_SHORT[column]}"] = f"{others.max():.3f} ({others.idxmax()})"
            row[f"difference {_SHORT[column]}"] = f"{values.loc[cell, ours] - others.max():+.3f}"
        rows.append(row)
    return markdown(pd.DataFrame(rows).set_index("cell"), "cell")


_SHORT = {"auroc": "AUROC", "average_precision": "AP"}


def _bars(behind, ours):
    """Say how far behind it is at worst, where it is near, and what the best single rival has."""
    sentences = []
    for column, near in (("auroc", 0.01), ("average_precision", 0.03)):
        values = behind[column]
        others = values.drop(columns=ours)
        difference = values[ours] - others.max(axis=1)
        single = others.mean().idxmax()
        sentences.append(
            f"{_SHORT[column]}: at worst {difference.min():+.3f} ({difference.idxmin()}); within "
            f"{near} or better in {(difference >= -near).sum()} of {len(difference)} cells; mean "
            f"{values[ours].mean():.3f}, best single rival {others.mean().max():.3f} ({single})."
        )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _against_each(behind, ours):
    auroc, precision = behind["auroc"], behind["average_precision"]
    rows = {}
    for rival in auroc.columns.drop(ours):
        difference = auroc[ours] - auroc[rival]
        rows[rival] = {
            "won": (difference > 0).sum(),
            "lost": (difference < 0).sum(),
            "mean difference AUROC": f"{difference.mean():+.3f}",
            "mean difference AP": f"{(precision[ours] - precision[rival]).mean():+.3f}",
            "worst difference AUROC": f"{difference.min():+.3f}",
        }
    return markdown(pd.DataFrame(rows).T, "rival")


def choice(lines, candidates=None):
    """Choose by the mean AUROC of all other origins; report what the origin left out says."""
    auroc, precision = means(lines), means(lines, "average_precision")
    pool = [m for m in auroc.index if m in candidates] if candidates else list(auroc.index)
    # a method that was not run everywhere cannot be chosen
    pool = [m for m in pool if m not in CONTROLS and auroc.loc[m].notna().all()]
    origins = {
        cell: SETS[name].origin if name in SETS else name
        for name, cell in lines[["set", "cell"]].drop_duplicates().itertuples(index=False)
    }
    if not pool or len(set(origins.values())) < 2:
        return ""
    auroc, precision = auroc.loc[pool], precision.loc[pool]
    chosen = {}
    for cell, origin in origins.items():
        others = [other for other in auroc.columns if origins[other] != origin]
        chosen[cell] = auroc[others].mean(axis=1).idxmax()
    picked = pd.DataFrame(
        {
            "chosen on the others": chosen,
            "AUROC / AP": {
                c: _pair(auroc.loc[m, c], precision.loc[m, c]) for c, m in chosen.items()
            },
            "best in hindsight": {
                c: f"{auroc[c].max():.3f} ({auroc[c].idxmax()})" for c in auroc.columns
            },
        }
    )
    overall = [values.to_numpy() for values in (auroc, precision)]
    rows = [auroc.index.get_loc(chosen[cell]) for cell in auroc.columns]
    left_out = [values[rows, range(len(rows))].mean() for values in overall]
    best = auroc.mean(axis=1).idxmax()
    times = ", ".join(f"{name}: {n}" for name, n in Counter(chosen.values()).most_common())
    return (
        "Chosen by leaving the sets of one origin out\n\n"
        + markdown(picked.loc[list(auroc.columns)], "cell")
        + f"\n\nMean of the choices {_pair(*left_out)} ({times}); with hindsight one method for "
        f"all {_pair(auroc.loc[best].mean(), precision.loc[best].mean())} ({best})."
    )


def failures(lines):
    failed = lines[lines["failure"] != ""]
    if not len(failed):
        return ""
    grouped = failed.groupby(["method", "failure"], sort=False)["cell"].unique()
    return "Failed\n\n" + "\n".join(
        f"- {method}: {reason} ({'; '.join(cells)})" for (method, reason), cells in grouped.items()
    )


def markdown(table, corner):
    """Write a data frame of texts and whole numbers."""
    rows = [[corner, *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [list(row) for row in table.itertuples()]
    return "\n".join("| " + " | ".join(str(value) for value in row) + " |" for row in rows)
