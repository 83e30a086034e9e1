"""Counts the ids that change with what must not matter: batch, order, padding, threads, saving and loading.

* `config` is the suite as YAML
* `items` reads what is encoded, of any modality
* `chunking` counts what changes where long speech is cut otherwise, which may matter
* `runner` measures
"""
