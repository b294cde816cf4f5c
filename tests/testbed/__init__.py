"""What the tests and the benchmarks run against: real Asterisk, SIPp, the proxy as a process, phones with real RTP.

Everything here is a child process or a socket of the test run, on loopback addresses or in a network namespace made
for it, and ends with it. Of the product only the demo's starters of processes are used: a phone that shared the
product's SIP or RTP would share its faults.
"""
