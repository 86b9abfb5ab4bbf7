"""The command line: each module parses, calls the package and prints; heavy imports happen inside commands."""
