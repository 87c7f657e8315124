"""The reference YOLOX and the commands. Nothing is imported here: `detect` has to run without torch."""
