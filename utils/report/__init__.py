"""The results of many runs: tables, statistics and figures, with the published numbers beside them."""
