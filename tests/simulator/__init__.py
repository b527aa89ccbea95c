"""The platform that the collection monitors, imitated for tests and for the demo.

One process per program of the platform; `python3 -m simulator --help` lists them.
"""
