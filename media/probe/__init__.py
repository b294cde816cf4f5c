"""Synthetic calls: a real call to a backend's test extension that must hear its own tone, or the backend's.

`call` says what is tried and what came of it, `ear` listens. `python -m media.probe` is a process of its own that
places such calls with pjsua2, PJSIP's user agent (`endpoint` and `phone` import it, nothing else does); `client`
starts that process and gives it orders. Whoever schedules the calls, and judges a backend by them, is elsewhere.
"""
