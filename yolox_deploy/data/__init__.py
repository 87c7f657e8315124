"""Data sets and images. `python -m yolox_deploy.data` is the data doctor."""
