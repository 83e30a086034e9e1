"""Measures what tokens sound like once they are speech again, beside the recordings they are of.

* `config` is the suite as YAML;
* `systems` makes one thing of a tokenizer of the zoo and of any `module:function`: waves in, waves out;
* `judges` are the measures, each of which may lack the package or the weights it needs;
* `runner` measures.
"""
