"""Real Asterisk as a backend: `asterisk-root.sh` unpacks a runnable one from Debian packages, `Asterisk` runs it.

Any number run side by side, each on an address of its own with the usual ports (SIP 5060, AMI 5038, ARI 8088) and with
every file in a folder of its own. No root, no container. The dialplan is in `conf/extensions.conf`.
"""

from tests.testbed.asterisk.instance import ROOT_FOLDER, Asterisk, pair

__all__ = ["ROOT_FOLDER", "Asterisk", "pair"]
