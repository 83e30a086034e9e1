"""Measures of signals, tokens and motion, and how sure they are. They know no family of tokenizers.

Every measure is a pure function on tensors. Over a data set it is *rows*, what was counted of each item by name, and a
*statistic* of rows (`rows`), so that any figure has an interval from resampling items (`bootstrap`); a
`torchmetrics.Metric` is there where training logs one. Import from the module that is needed; this one stays empty, so
that none pays for another's imports.
"""
