"""The lake: what was read from every source, one table per stream, one truth for every sync.

lake.py      Lake: DuckDB with the DuckLake catalog attached
load.py      stage(): read a stream, land it, merge it, move its position
landing.py   dlt: pages -> landing table, position in the destination
merge.py     landing -> staged table
tables.py    names, schemas and positions of staged tables
maintain.py  compaction and expiry
"""
