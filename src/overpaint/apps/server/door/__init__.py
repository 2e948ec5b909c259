"""Who may come in: names of hosts and origins, and how a request is framed."""
