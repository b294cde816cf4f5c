"""Real Asterisk as a backend, any number side by side: each on an address of its own with the usual ports (SIP 5060,
AMI 5038, ARI 8088) and every file in a folder of its own. No root, no container. The dialplan is in
`conf/extensions.conf`; `make asterisk` unpacks one that runs.
"""

from proxy.demo.asterisk.instance import ROOT_FOLDER, Asterisk, pair

__all__ = ["ROOT_FOLDER", "Asterisk", "pair"]
