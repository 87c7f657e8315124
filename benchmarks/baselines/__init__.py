"""The same work as plain Python programs do it, and as other libraries do: what ours is measured against.

Each is a class of its own, made of (path, threads, size, rules), called with an image and closed at the end; see
`benchmarks.stages.Program`. All but OpenCV and NumPy is imported only where it is used.
"""
