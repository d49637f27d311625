"""What many runs have found: tables, statistics and figures, with the published numbers beside."""
