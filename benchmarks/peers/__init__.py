"""Our pipelines from an image to its boxes, against plain Python programs and other libraries."""
