"""How the client reaches a controller: a unix socket, SSH, or an embedded controller of its own."""
