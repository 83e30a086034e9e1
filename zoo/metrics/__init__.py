"""Measures of signals, tokens and motion, and how sure they are. They know no family of tokenizers.

Every measure is a pure function on tensors, and where a pass over a data set needs one, a `torchmetrics.Metric` of the
same name. Import from the module that is needed; this one stays empty, so that none pays for another's imports.
"""
