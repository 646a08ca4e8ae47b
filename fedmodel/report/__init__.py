"""Reports of a run for people: tables, a page, and notes on what the promise is."""
