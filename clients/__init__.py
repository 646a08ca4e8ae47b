"""One hospital's side: sees its own rows, keys and budget."""
