"""The authors' released files: `folder` reads and writes them."""
