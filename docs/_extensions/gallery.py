"""In which order the gallery shows the examples."""

FIRST = [
    "plot_quickstart.py",
    "plot_displays.py",
    "plot_boosted_trees.py",
    "plot_grid_search.py",
    "plot_monitoring.py",
    "plot_imblearn.py",
]


class Order:
    """Sort key of a file name: those named first, then the others by name."""

    def __init__(self, src_dir):
        """Take what the gallery gives to a key."""

    def __call__(self, filename):
        """Give the place of the file."""
        return (FIRST.index(filename) if filename in FIRST else len(FIRST), filename)
