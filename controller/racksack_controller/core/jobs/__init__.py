"""How attempts and jobs go on and end."""
