"""Reading and writing the files in which SSDD's authors released their weights."""
