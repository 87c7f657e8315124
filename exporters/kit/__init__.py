"""Conformance kits: every intermediate result of detecting, in files, for runtimes in other languages."""
