"""One CMS analysis written as small pure kernels: physics, and nothing of benchmarks."""
