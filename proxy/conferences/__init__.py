"""Conferences: their rosters, where they live, and what it takes that one is the same on a backup.

`roster` and `seats` are pure; `conferences` keeps them by what backends say; `rebuilt` compares and puts right.
"""

from proxy.conferences.conferences import Conferences
from proxy.conferences.rebuilt import Rebuilt, put_right
from proxy.conferences.roster import Conference, Participant, Segment

__all__ = ["Conference", "Conferences", "Participant", "Rebuilt", "Segment", "put_right"]
