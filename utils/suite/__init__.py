"""Many runs: a table or a figure a file, each of its runs a process of ``modelzoo.py``."""
