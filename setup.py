"""Build the one compiled module; everything else about the package is in pyproject.toml."""

import os

from setuptools import Extension, setup

TRACE = os.environ.get("QXFLEET_TRACE") == "1"

fastparse = Extension(
    "qxfleet._fastparse",
    ["qxfleet/_fastparse.pyx"],
    define_macros=[("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if TRACE else [],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cpp"],
)
if TRACE:
    fastparse.cython_directives = {"linetrace": True}

setup(ext_modules=[fastparse])
