"""The optional part that is not Python: without a compiler it is left out, and nothing but CPU time changes."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("proxy.sip._scan", ["proxy/sip/_scan.c"], extra_compile_args=["-O2"], optional=True)])
