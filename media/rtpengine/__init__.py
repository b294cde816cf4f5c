"""The contract `media.api.MediaPlane` over rtpengine: any number of its daemons, driven by the ng protocol."""

from media.rtpengine.node import NodeOptions, Watch
from media.rtpengine.plane import RtpenginePlane

__all__ = ["NodeOptions", "RtpenginePlane", "Watch"]
