"""The coordinator's side: sees sums and released models, never a row."""
