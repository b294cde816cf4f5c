"""What every SIP message goes through is compiled with mypyc, from the same source (docs/decisions/0005).

Where mypy or a compiler is missing, or AQUEDUCT_PLAIN is set, it stays plain Python: nothing but CPU time changes.
"""

import os
from glob import glob

from setuptools import Extension, setup

PLAIN_ROOMS = ("digest", "lookup", "resolver", "user_agent", "__init__")
# Not the configuration of this project: what the compiled rooms import need not be installed where they are built.
MYPY_OPTIONS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]


def compiled() -> list[Extension]:
    if os.environ.get("AQUEDUCT_PLAIN"):
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []
    rooms = sorted(glob("proxy/sip/*.py") + glob("proxy/calls/*.py"))
    hot = [path for path in rooms if not path.endswith(tuple(f"/{name}.py" for name in PLAIN_ROOMS))]
    hot.append("proxy/net/timers.py")
    extensions = mypycify([*MYPY_OPTIONS, *hot], opt_level="2", debug_level="0", group_name="proxy.compiled")
    for extension in extensions:
        extension.optional = True
    return extensions


setup(ext_modules=compiled())
