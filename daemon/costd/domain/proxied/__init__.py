"""What a proxy knows of the providers before it: their routes, their bodies, and what their answers say was used."""
