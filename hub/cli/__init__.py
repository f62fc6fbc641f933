"""The command line: one file a verb, listed in hub/cli/main.py."""
