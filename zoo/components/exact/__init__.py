"""How ids are made to depend on nothing but the item itself."""
