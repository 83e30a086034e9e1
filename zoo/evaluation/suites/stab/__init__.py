"""The STAB-style suite: invariance, robustness, compressibility and vocabulary use of any speech tokenizer.

Source: the library's specification of the Speech Tokenizer Assessment Benchmark (Vashishth et al., arXiv 2409.02384).
The body of the paper could not be read. It names the dimensions; formulas, data and strengths are chosen here, so that
results are "STAB-style" and never STAB scores.

* `config` says what is measured, as YAML
* `corpus` reads the recordings and disturbs them, once for all tokenizers
* `runner` measures, with `invariance`, `place`, `robustness`, `adversarial` and `codes`
* `columns` is its table, `page` writes what came out as HTML
"""
