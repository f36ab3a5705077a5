"""What lies on disk: files replaced in one step, locks, fingerprints, work gone on with."""
