"""Real Asterisk as a backend: `asterisk-root.sh` unpacks a runnable one from Debian packages, `Asterisk` of the demo
runs it. What tests dial is in `proxy/demo/asterisk/conf/extensions.conf`.
"""

from pathlib import Path

from proxy.demo.asterisk import Asterisk, pair

ROOT_FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "asterisk-root"

__all__ = ["ROOT_FOLDER", "Asterisk", "pair"]
