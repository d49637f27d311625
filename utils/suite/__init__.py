"""Many runs: a suite file describes a table or a figure, and each of its runs is a process of ``modelzoo.py``."""
