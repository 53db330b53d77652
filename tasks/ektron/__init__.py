"""Pure knowledge of the product Ektron: editions, files, certificates and rules. No I/O happens here."""
