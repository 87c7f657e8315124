"""Write artifacts: any `nn.Module` with a `ModelSpec`, one toolchain a file."""
