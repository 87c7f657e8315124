"""A conformance kit for runtimes in other languages."""
