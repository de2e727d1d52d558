"""ION's side: the budget's gate, OAuth, the client, and one pure file a dialect."""
