"""Measures what tokens look like once they are clips again; what is the same as of pictures is that of `suites.image`.

* `config` is the suite as YAML, `clips` finds and reads what is measured on;
* `systems` has image tokenizers that make a clip frame by frame, `codecs` H.264 of at most as many bits;
* `judges` are the measures; `runner` measures, `columns` and `page` show.
"""
