"""Measures what tokens look like once they are pictures again, beside what other codes of as many bits look like.

* `config` is the suite as YAML;
* `photos` finds and reads what is measured on;
* `systems` makes one thing of tokenizers, their autoencoders, and any `module:function`: pictures in, pictures out;
* `codecs` are the peers, JPEG and WebP of at most as many bits;
* `judges` are the measures, each of which may lack the weights it needs;
* `tally` counts, and makes figures of counts;
* `runner` measures, `columns` and `page` show;
* `video` is the suite of clips, which has all of this in common.
"""
