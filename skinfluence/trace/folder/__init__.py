"""A trace in a folder, and the point from which a stopped training goes on."""
