"""`sidecar demo`: scenarios that show what the product does, on this machine and with nothing to configure.

`outage` is to be watched and tried out with curl; `cascade` is a rehearsal that measures, and ends by itself.
"""
